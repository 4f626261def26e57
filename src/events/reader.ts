import { type FileHandle, open, readdir } from "node:fs/promises";
import { join } from "node:path";
import { type Clock, systemClock } from "../base/clock.ts";
import { isMissing } from "../base/errors.ts";
import { mapConcurrently } from "../base/map-concurrently.ts";
import type { EventEnvelope } from "./event.ts";

/** Consecutive events that a reader has not seen although it has seen a later one; both ends included. */
export type Gap = [from: number, to: number];

/** How far one writer's file has been read. Plain data: kept between commands in the user's cache. */
export interface Position {
  /** Bytes: after the last complete line. */
  offset: number;
  /** The highest seen. */
  seq: number;
  gaps: Gap[];
  /** Complete lines that are no event. */
  damaged: number;
}

/** Writer → position. */
export type Positions = Map<string, Position>;

/** Lines are decoded in pieces of this size. */
const pieceBytes = 4 * 1024 * 1024;
const suffix = ".jsonl";

/**
 * Reads what is new in every journal of a run and passes each event on once: those of a writer in the order of its file,
 * those of several writers in any. Each file is opened anew, which is what makes a network file system show what others
 * have written. A last line that is not complete waits; lines that are no event, and missing numbers, are noted in the
 * position. Types and fields that this version does not know are passed on; nothing but the envelope is checked.
 * @param positions changed in place
 */
export async function readEvents(
  directory: string,
  positions: Positions,
  accept: (event: EventEnvelope) => void,
): Promise<void> {
  await mapConcurrently(await listJournals(directory), async (name) => {
    const writer = name.slice(0, -suffix.length);
    const position = positions.get(writer) ?? { offset: 0, seq: 0, gaps: [], damaged: 0 };
    positions.set(writer, position);
    await readJournal(join(directory, name), position, accept);
  });
}

export interface FollowOptions {
  readonly signal: AbortSignal;
  readonly pollMs?: number;
  readonly clock?: Clock;
}

/**
 * Reads again and again; gives the events of each look that found some. Nobody is told by other machines' file systems, so
 * it asks. Ends when the signal aborts.
 */
export async function* followEvents(
  directory: string,
  positions: Positions,
  { signal, pollMs = 1_000, clock = systemClock }: FollowOptions,
): AsyncGenerator<readonly EventEnvelope[]> {
  while (!signal.aborted) {
    const events: EventEnvelope[] = [];
    await readEvents(directory, positions, (event) => events.push(event));
    if (events.length > 0) yield events;
    await clock.sleep(pollMs, signal).catch((error: unknown) => {
      if (!signal.aborted) throw error;
    });
  }
}

async function listJournals(directory: string): Promise<string[]> {
  try {
    const names = await readdir(directory);
    return names.filter((name) => name.endsWith(suffix) && !name.startsWith("."));
  } catch (error) {
    if (isMissing(error)) return [];
    throw error;
  }
}

async function readJournal(
  path: string,
  position: Position,
  accept: (event: EventEnvelope) => void,
): Promise<void> {
  const file = await open(path, "r");
  try {
    const { size } = await file.stat();
    // Somebody put an older copy in its place: what was seen is known by its numbers.
    if (size < position.offset) position.offset = 0;
    while (position.offset < size) {
      const piece = await readLines(file, position.offset, size - position.offset);
      if (piece === undefined) return;
      if (piece.damaged) position.damaged += 1;
      for (const line of piece.text.split("\n")) {
        if (line === "") continue;
        const event = parseEvent(line);
        if (event === undefined) position.damaged += 1;
        else if (isNew(position, event.seq)) accept(event);
      }
      position.offset += piece.bytes;
    }
  } finally {
    await file.close();
  }
}

/** Complete lines from `offset` on; undefined when there is none. No line of ours is as long as a piece. */
async function readLines(
  file: FileHandle,
  offset: number,
  available: number,
): Promise<{ text: string; bytes: number; damaged: boolean } | undefined> {
  const buffer = Buffer.allocUnsafe(Math.min(available, pieceBytes));
  const { bytesRead } = await file.read(buffer, 0, buffer.length, offset);
  const end = buffer.subarray(0, bytesRead).lastIndexOf(10);
  if (end >= 0) return { text: buffer.toString("utf8", 0, end), bytes: end + 1, damaged: false };
  return bytesRead === pieceBytes ? { text: "", bytes: bytesRead, damaged: true } : undefined;
}

function parseEvent(line: string): EventEnvelope | undefined {
  try {
    const event = JSON.parse(line) as Partial<EventEnvelope> | null;
    const valid =
      typeof event === "object" &&
      event !== null &&
      typeof event.type === "string" &&
      typeof event.writer === "string" &&
      typeof event.at === "string" &&
      Number.isSafeInteger(event.seq);
    return valid ? (event as EventEnvelope) : undefined;
  } catch {
    return undefined;
  }
}

/** Counts a number as seen. @returns false when it was seen before. */
function isNew(position: Position, seq: number): boolean {
  if (seq > position.seq) {
    if (seq > position.seq + 1) position.gaps.push([position.seq + 1, seq - 1]);
    position.seq = seq;
    return true;
  }
  // A writer repeats what a failing disk may have lost, so a gap may close later.
  const at = position.gaps.findIndex(([from, to]) => from <= seq && seq <= to);
  const gap = position.gaps[at];
  if (gap === undefined) return false;
  const [from, to] = gap;
  const rest: Gap[] = [];
  if (from < seq) rest.push([from, seq - 1]);
  if (seq < to) rest.push([seq + 1, to]);
  position.gaps.splice(at, 1, ...rest);
  return true;
}
