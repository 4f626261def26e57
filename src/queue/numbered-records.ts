import { readdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import * as z from "zod";
import { isMissing } from "../base/errors.ts";
import { ensureDirectory, writeFileExclusive } from "../base/files.ts";
import { accessingPatiently } from "./queue-error.ts";

/** A record that was created exclusively under `{series}.{n}`, n counting up from 1. Records are immutable. */
export interface Numbered {
  readonly series: string;
  readonly n: number;
  readonly text: string;
}

/** A person's command (`run`, `submit`, `requeue`): what has a lower number in the series does not count any more. */
export const VoidRecord = z.strictObject({
  schema_version: z.literal(1),
  kind: z.literal("void"),
  command: z.string(),
  /** ISO 8601, UTC: for people. */
  at: z.string(),
});

/** Pure: those of a series, ascending, that count. */
export function sinceVoid<R extends { readonly kind: string }>(records: readonly R[]): R[] {
  return records.slice(records.findLastIndex(({ kind }) => kind === "void") + 1);
}

/** Many records in one file, `folded.{k}.json`; the highest k holds all that the lower ones held. */
const Folded = z.strictObject({
  schema_version: z.literal(1),
  records: z.array(z.strictObject({ series: z.string(), n: z.int().positive(), text: z.string() })),
});

/** What lies in a directory of records. No series is called `folded`. */
interface Listing {
  /** Ascending. */
  readonly folds: readonly number[];
  readonly single: readonly {
    readonly series: string;
    readonly n: number;
    readonly name: string;
  }[];
}

const pattern = /^([^.].*)\.([1-9]\d*)(\.json)?$/;
/** Looks at a directory whose records somebody is folding. */
const attempts = 20;

/**
 * Appends a record to a series: the order of numbers is that of the file system, whatever the writers' clocks say.
 * @returns its number.
 */
export async function appendRecord(
  directory: string,
  series: string,
  text: string,
  suffix: "" | ".json" = "",
): Promise<number> {
  return await accessingPatiently("write a record", directory, async () => {
    await ensureDirectory(directory);
    const { records } = await look(directory, (name) => name === series);
    for (let n = Math.max(0, ...records.map((record) => record.n)) + 1; ; n++) {
      if (await writeFileExclusive(join(directory, `${series}.${n}${suffix}`), text)) return n;
    }
  });
}

/** All records of a directory that `wanted` accepts, by series and number. A directory that is not there has none. */
export async function readRecords(
  directory: string,
  wanted: (series: string) => boolean = () => true,
): Promise<Numbered[]> {
  return await accessingPatiently("read records", directory, async () => {
    const { records } = await look(directory, wanted);
    return records.sort((a, b) => compare(a.series, b.series) || a.n - b.n);
  });
}

/**
 * Puts all records into one file: directories of thousands are a burden. Of several that do so at once one succeeds;
 * records that are appended meanwhile stay as they are.
 */
export async function foldRecords(directory: string): Promise<void> {
  await accessingPatiently("fold records", directory, async () => {
    for (;;) {
      const { listing, records } = await look(directory, () => true);
      const { folds, single } = listing;
      if (single.length === 0 && folds.length < 2) return;
      const path = foldPath(directory, (folds.at(-1) ?? 0) + 1);
      const text = `${JSON.stringify({ schema_version: 1, records })}\n`;
      // Whoever was first has seen what we have, and perhaps removed it already.
      if (!(await writeFileExclusive(path, text))) continue;
      for (const { name } of single) await rm(join(directory, name), { force: true });
      for (const k of folds) await rm(foldPath(directory, k), { force: true });
      return;
    }
  });
}

/** One listing, and the records that it shows. What vanishes while it is read has been folded: then it looks again. */
async function look(
  directory: string,
  wanted: (series: string) => boolean,
): Promise<{ listing: Listing; records: Numbered[] }> {
  for (let attempt = 1; ; attempt++) {
    const listing = await list(directory);
    try {
      return { listing, records: await read(directory, listing, wanted) };
    } catch (error) {
      if (!isMissing(error) || attempt === attempts) throw error;
    }
  }
}

async function list(directory: string): Promise<Listing> {
  const names = await readdir(directory).catch((error: unknown) => {
    if (isMissing(error)) return [];
    throw error;
  });
  const folds: number[] = [];
  const single: { series: string; n: number; name: string }[] = [];
  for (const name of names) {
    const match = pattern.exec(name);
    if (match === null) continue;
    const [series, n] = [match[1] as string, Number(match[2])];
    if (series === "folded") folds.push(n);
    else single.push({ series, n, name });
  }
  return { folds: folds.sort((a, b) => a - b), single };
}

async function read(
  directory: string,
  { folds, single }: Listing,
  wanted: (series: string) => boolean,
): Promise<Numbered[]> {
  const last = folds.at(-1);
  const folded = last === undefined ? [] : await readFolded(foldPath(directory, last));
  const found = folded.filter(({ series }) => wanted(series));
  // Whoever folded may have been killed before it removed them.
  const known = new Set(found.map(({ series, n }) => `${series}.${n}`));
  for (const { series, n, name } of single) {
    if (!wanted(series) || known.has(`${series}.${n}`)) continue;
    found.push({ series, n, text: await readFile(join(directory, name), "utf8") });
  }
  return found;
}

async function readFolded(path: string): Promise<Numbered[]> {
  return Folded.parse(JSON.parse(await readFile(path, "utf8"))).records;
}

function foldPath(directory: string, k: number): string {
  return join(directory, `folded.${k}.json`);
}

function compare(a: string, b: string): number {
  return a === b ? 0 : a < b ? -1 : 1;
}
