import type { EventEnvelope } from "./event.ts";
import { readEvents } from "./reader.ts";

/** What of a run's events is asked for; everything that is given has to fit. */
export interface HistoryFilter {
  readonly unit?: string;
  /** Its own events, and those of the batches, agents and their processes that brought it. */
  readonly leaf?: (leaf: string) => boolean;
  /** Types, or the first part of types: `leaf` for `leaf.done` and so on. */
  readonly types?: readonly string[];
}

/** Events of all writers by their times; those of one writer stay in its order. */
export async function readHistory(eventsDirectory: string): Promise<EventEnvelope[]> {
  const events: EventEnvelope[] = [];
  await readEvents(eventsDirectory, new Map(), (event) => events.push(event));
  return events.sort((a, b) => compare(a.at, b.at) || (a.writer === b.writer ? a.seq - b.seq : 0));
}

/** Pure: keeps the order. */
export function selectHistory(
  events: readonly EventEnvelope[],
  { unit, leaf, types }: HistoryFilter,
): EventEnvelope[] {
  const ofUnit = events.filter((event) => unit === undefined || event.unit === unit);
  const chosen = leaf === undefined ? ofUnit : aroundLeaf(events, ofUnit, leaf);
  if (types === undefined || types.length === 0) return chosen;
  return chosen.filter(({ type }) =>
    types.some((wanted) => type === wanted || type.startsWith(`${wanted}.`)),
  );
}

function aroundLeaf(
  all: readonly EventEnvelope[],
  ofUnit: readonly EventEnvelope[],
  isChosen: (leaf: string) => boolean,
): EventEnvelope[] {
  const own = ofUnit.filter(({ leaf }) => leaf !== undefined && isChosen(leaf));
  const attempts = new Set(own.map(attemptOf));
  const batches = new Set(own.map(batchOf));
  const writers = new Set(own.map(({ writer }) => writer));
  return all.filter((event) => {
    if (/^(agent|harness|balancer)\./.test(event.type)) return writers.has(event.writer);
    // Whoever tells of it is another one than the owner that it had.
    if (event.type === "batch.reclaimed") return batches.has(batchOf(event));
    if (event.type.startsWith("batch.")) return attempts.has(attemptOf(event));
    return own.includes(event);
  });
}

function batchOf({ unit, batch }: EventEnvelope): string {
  return `${unit} ${batch}`;
}

function attemptOf(event: EventEnvelope): string {
  return `${event.writer} ${batchOf(event)} ${event.attempt}`;
}

function compare(a: string, b: string): number {
  return a === b ? 0 : a < b ? -1 : 1;
}
