import { readdir, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { isMissing } from "../base/errors.ts";
import { readTextIfThere } from "../base/files.ts";

/** Younger files may belong to an evaluation of another agent that is about to name them. */
const minAgeMs = 3_600_000;

/**
 * Removes what evaluations that were killed or came second have left beside the leaf files: samples that no leaf file
 * names, and temporary files. Those of an owner that is known to be gone need not be old.
 * @returns the names removed.
 */
export async function sweepLeftovers(
  directory: string,
  options: { readonly now: number; readonly isGone: (owner: string) => boolean },
): Promise<string[]> {
  const names = await readdir(directory).catch((error: unknown) => {
    if (isMissing(error)) return [];
    throw error;
  });
  const removed: string[] = [];
  for (const name of names) {
    const match = leftover.exec(name);
    if (match === null) continue;
    const { leaf, owner = "" } = match.groups ?? {};
    const path = join(directory, name);
    const orphaned = options.isGone(owner) || options.now - (await modifiedAt(path)) > minAgeMs;
    if (!orphaned || (leaf !== undefined && (await isNamed(directory, leaf, name)))) continue;
    await rm(path, { force: true });
    removed.push(name);
  }
  return removed;
}

/** `samples_{leaf id}.{fp12}.{owner}.jsonl`, or a temporary file of any of them: `.{name}.{owner}.{pid}.tmp`. */
const leftover = new RegExp(
  "^samples_(?<leaf>.+\\.[0-9a-f]{12})\\.(?<owner>[a-z0-9-]+)\\.jsonl$" +
    "|^\\..*\\.(?<owner>[a-z0-9-]+)\\.\\d+\\.tmp$",
);

/** True when the result of this leaf says that these are its samples. */
async function isNamed(directory: string, leaf: string, samples: string): Promise<boolean> {
  for (const kind of ["results", "invalid"]) {
    const text = await readTextIfThere(join(directory, `${kind}_${leaf}.json`));
    if (text?.includes(`"${samples}"`) === true) return true;
  }
  return false;
}

async function modifiedAt(path: string): Promise<number> {
  return await stat(path).then(
    ({ mtimeMs }) => mtimeMs,
    () => Number.POSITIVE_INFINITY,
  );
}
