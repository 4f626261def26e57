import { readdir } from "node:fs/promises";
import { isMissing } from "../base/errors.ts";
import type { Fingerprint, LeafId } from "./ids.ts";
import { invalidFileName, leafDirectory, leafFileName } from "./layout.ts";
import type { ManifestEntry } from "./manifest.ts";

/** Which planned leaves of a unit are settled by a file of ours. The two never share a leaf: a valid result wins. */
export interface UnitCoverage {
  readonly done: ReadonlySet<LeafId>;
  /** Evaluated, but the scores can't be trusted; not tried again. */
  readonly invalid: ReadonlySet<LeafId>;
}

/** File name → the leaf that it settles. */
export type LeafFileIndex = ReadonlyMap<string, { readonly leaf: LeafId; readonly valid: boolean }>;

/** The names that the files of these leaves have: made once per profile, since all its units share them. */
export function indexLeafFiles(fingerprints: Readonly<Record<LeafId, Fingerprint>>): LeafFileIndex {
  const index = new Map<string, { leaf: LeafId; valid: boolean }>();
  for (const [id, fingerprint] of Object.entries<Fingerprint>(fingerprints)) {
    const leaf = id as LeafId;
    index.set(leafFileName(leaf, fingerprint), { leaf, valid: true });
    index.set(invalidFileName(leaf, fingerprint), { leaf, valid: false });
  }
  return index;
}

/** Pure: what the names in a unit's leaf directory say. Names of other plans, samples and temporary files say nothing. */
export function coverageOf(names: Iterable<string>, index: LeafFileIndex): UnitCoverage {
  const done = new Set<LeafId>();
  const invalid = new Set<LeafId>();
  for (const name of names) {
    const found = index.get(name);
    if (found !== undefined) (found.valid ? done : invalid).add(found.leaf);
  }
  for (const leaf of done) invalid.delete(leaf);
  return { done, invalid };
}

/**
 * Coverage of one unit by one readdir; no file is opened. A directory that is not there covers nothing. A leaf file that
 * appears meanwhile may be missed: look again, or accept that the leaf is dropped when its batch is leased.
 */
export async function readUnitCoverage(
  directory: string,
  index: LeafFileIndex,
): Promise<UnitCoverage> {
  try {
    return coverageOf(await readdir(directory), index);
  } catch (error) {
    if (isMissing(error)) return { done: new Set(), invalid: new Set() };
    throw error;
  }
}

/** Units of one profile share the very same record, and so one index. */
const indexes = new WeakMap<object, LeafFileIndex>();

/** As `readUnitCoverage`, for a unit of the manifest and the fingerprints of its profile. */
export async function readCoverage(
  outputPath: string,
  entry: Pick<ManifestEntry, "model_key" | "label">,
  fingerprints: Readonly<Record<LeafId, Fingerprint>>,
): Promise<UnitCoverage> {
  const index = indexes.get(fingerprints) ?? indexLeafFiles(fingerprints);
  indexes.set(fingerprints, index);
  return await readUnitCoverage(leafDirectory(outputPath, entry), index);
}
