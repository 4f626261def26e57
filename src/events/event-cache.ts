import { readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { ensureDirectory, writeFileAtomic } from "../base/files.ts";
import { sha256 } from "../base/hash.ts";
import { type Positions, readEvents } from "./reader.ts";
import { addEvent, type WriterState } from "./writer-state.ts";

/** What the events of a run add up to, as far as they were read. */
export interface EventTotals {
  readonly positions: Positions;
  readonly writers: Map<string, WriterState>;
}

/** Raised whenever the fold changes: what an older version has added up is then read again. */
const foldVersion = 5;
/** Less than this is read again sooner than written down. */
const worthKeepingBytes = 512 * 1024;

/** Where a reader keeps what it has added up; in the user's cache, never in the run directory. */
export function eventCacheFile(
  cacheDirectory: string,
  runDirectory: string,
  runId: string,
): string {
  return join(cacheDirectory, "events", `${sha256(`${runId}\n${runDirectory}`).slice(0, 32)}.json`);
}

export function noEvents(): EventTotals {
  return { positions: new Map(), writers: new Map() };
}

/** Adds what is new in the journals to `totals`. @returns bytes read. */
export async function addNewEvents(directory: string, totals: EventTotals): Promise<number> {
  const before = offsets(totals);
  await readEvents(directory, totals.positions, (event) => addEvent(totals.writers, event));
  return offsets(totals) - before;
}

/**
 * Totals of all events of a run. A command that comes again reads only what is new: the cache file holds the rest. A cache
 * that can't be read or written costs time, nothing else.
 */
export async function readTotals(directory: string, cacheFile?: string): Promise<EventTotals> {
  const totals = (cacheFile === undefined ? undefined : await load(cacheFile)) ?? noEvents();
  const newBytes = await addNewEvents(directory, totals);
  if (cacheFile !== undefined && newBytes >= worthKeepingBytes) await store(cacheFile, totals);
  return totals;
}

function offsets({ positions }: EventTotals): number {
  let sum = 0;
  for (const { offset } of positions.values()) sum += offset;
  return sum;
}

interface Stored {
  readonly fold_version: number;
  readonly positions: [string, Positions extends Map<string, infer P> ? P : never][];
  readonly writers: WriterState[];
}

async function load(path: string): Promise<EventTotals | undefined> {
  try {
    const stored = JSON.parse(await readFile(path, "utf8")) as Stored;
    if (stored.fold_version !== foldVersion) return undefined;
    return {
      positions: new Map(stored.positions),
      writers: new Map(stored.writers.map((state) => [state.writer, state])),
    };
  } catch {
    return undefined;
  }
}

async function store(path: string, { positions, writers }: EventTotals): Promise<void> {
  const stored: Stored = {
    fold_version: foldVersion,
    positions: [...positions],
    writers: [...writers.values()],
  };
  try {
    await ensureDirectory(dirname(path));
    await writeFileAtomic(path, JSON.stringify(stored));
  } catch {
    // A home directory that is full or read-only.
  }
}
