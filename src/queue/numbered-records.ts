import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { isMissing } from "../base/errors.ts";
import { ensureDirectory, writeFileExclusive } from "../base/files.ts";
import { accessing } from "./queue-error.ts";

/** A record that was created exclusively under `{series}.{n}`, n counting up from 1. Records are immutable. */
export interface Numbered {
  readonly series: string;
  readonly n: number;
  readonly text: string;
}

const pattern = /^([^.].*)\.([1-9]\d*)(\.json)?$/;

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
  return await accessing("write a record", directory, async () => {
    await ensureDirectory(directory);
    const numbers = (await readdir(directory)).flatMap((name) => {
      const match = pattern.exec(name);
      return match?.[1] === series ? [Number(match[2])] : [];
    });
    for (let n = Math.max(0, ...numbers) + 1; ; n++) {
      if (await writeFileExclusive(join(directory, `${series}.${n}${suffix}`), text)) return n;
    }
  });
}

/** All records of a directory that `wanted` accepts, by series and number. A directory that is not there has none. */
export async function readRecords(
  directory: string,
  wanted: (series: string) => boolean = () => true,
): Promise<Numbered[]> {
  return await accessing("read records", directory, async () => {
    const names = await readdir(directory).catch((error: unknown) => {
      if (isMissing(error)) return [];
      throw error;
    });
    const found: Numbered[] = [];
    for (const name of names) {
      const match = pattern.exec(name);
      if (match === null || !wanted(match[1] as string)) continue;
      const text = await readFile(join(directory, name), "utf8");
      found.push({ series: match[1] as string, n: Number(match[2]), text });
    }
    return found.sort((a, b) => compare(a.series, b.series) || a.n - b.n);
  });
}

function compare(a: string, b: string): number {
  return a === b ? 0 : a < b ? -1 : 1;
}
