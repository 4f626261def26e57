import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { isMissing } from "../base/errors.ts";
import { ensureDirectory, writeFileExclusive } from "../base/files.ts";
import type { RunLayout } from "../run/layout.ts";
import { accessing } from "./queue-error.ts";

/** The queue's epoch: the highest that was ever begun; undefined before the first. */
export async function readEpoch(layout: RunLayout): Promise<number | undefined> {
  return await accessing("read the epoch", layout.epochs, async () => {
    const names = await readdir(layout.epochs).catch((error: unknown) => {
      if (isMissing(error)) return [];
      throw error;
    });
    const epochs = names.flatMap((name) => {
      const match = /^epoch\.([1-9]\d*)$/.exec(name);
      return match === null ? [] : [Number(match[1])];
    });
    return epochs.length === 0 ? undefined : Math.max(...epochs);
  });
}

/**
 * Begins epoch `epoch`, unless it has begun already. From then on agents of a lower one finish the leaf at hand and go on
 * in this one. @returns true when this call began it.
 */
export async function beginEpoch(layout: RunLayout, epoch: number): Promise<boolean> {
  if (!Number.isSafeInteger(epoch) || epoch < 1) throw new RangeError(`Not an epoch: ${epoch}`);
  return await accessing("begin an epoch", layout.epochs, async () => {
    await ensureDirectory(layout.epochs);
    return await writeFileExclusive(join(layout.epochs, `epoch.${epoch}`), "");
  });
}

/** Begins the epoch after the highest, and gives its number. Of several callers each gets one of its own. */
export async function raiseEpoch(layout: RunLayout): Promise<number> {
  for (;;) {
    const next = ((await readEpoch(layout)) ?? 0) + 1;
    if (await beginEpoch(layout, next)) return next;
  }
}
