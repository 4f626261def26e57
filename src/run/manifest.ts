import * as z from "zod";
import { readTextIfThere, writeFileAtomic } from "../base/files.ts";
import { parseExactJson, stringifyJson } from "../base/json.ts";
import type { UnitId } from "./ids.ts";
import type { RunLayout } from "./layout.ts";
import { RunDirectoryError } from "./plan-file.ts";

const integer = z.union([z.int(), z.bigint()]);

/** A unit as eh_manifest.json has it: the original's fields, in its order. */
export const ManifestEntry = z.strictObject({
  model_key: z.string(),
  /** `main`, or the checkpoint's directory name. */
  label: z.string(),
  /** Training step plus the entry's offset. */
  step: integer.nullable(),
  model_path: z.string(),
  display_name: z.string(),
  /** Tokens per training step. */
  train_batch_size: integer.nullable(),
  tokens_trained: integer.nullable(),
});
export type ManifestEntry = z.output<typeof ManifestEntry>;

/** Unit id → entry, in config order. */
export type Manifest = ReadonlyMap<UnitId, ManifestEntry>;

const ManifestFile = z.record(z.string(), ManifestEntry);

/** The units of a run; integers stay exact. @throws {RunDirectoryError} when the file is missing or can't be read. */
export async function readManifest(layout: RunLayout): Promise<Manifest> {
  const text = await readTextIfThere(layout.manifest);
  if (text === undefined) {
    throw new RunDirectoryError(`Cannot find "${layout.manifest}"`, {
      hint: "Every run directory has one: was it moved or only half copied?",
    });
  }
  try {
    const entries = Object.entries(ManifestFile.parse(parseExactJson(text)));
    return new Map(entries.map(([id, entry]) => [id as UnitId, entry]));
  } catch (error) {
    throw new RunDirectoryError(`Cannot read "${layout.manifest}": it is no manifest`, {
      cause: error,
      hint: "The file was changed by hand: create-run --update writes it anew.",
    });
  }
}

/** eh_manifest.json as a plain object, in the order of the file. */
export function manifestObject(manifest: Manifest): Record<UnitId, ManifestEntry> {
  return Object.fromEntries(manifest) as Record<UnitId, ManifestEntry>;
}

/** The bytes that Python's `json.dumps(manifest, indent=2)` gives: characters beyond ASCII escaped, no line end. */
export function renderManifest(manifest: Manifest): string {
  return stringifyJson(manifestObject(manifest), 2).replace(
    /[\u007f-\uffff]/g,
    (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

export async function writeManifest(layout: RunLayout, manifest: Manifest): Promise<void> {
  await writeFileAtomic(layout.manifest, renderManifest(manifest));
}
