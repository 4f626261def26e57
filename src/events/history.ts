import type { EventEnvelope } from "./event.ts";
import { readEvents } from "./reader.ts";

/** What of a run's events is asked for; everything that is given has to fit. */
export interface HistoryFilter {
  readonly unit?: string;
  /** Its own events, and those of the batches and agents that brought it. */
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
  const writers = new Set(own.map(({ writer }) => writer));
  return all.filter((event) => {
    if (event.type.startsWith("agent.")) return writers.has(event.writer);
    if (event.type.startsWith("batch.")) return attempts.has(attemptOf(event));
    return own.includes(event);
  });
}

function attemptOf({ writer, unit, batch, attempt }: EventEnvelope): string {
  return `${writer} ${unit} ${batch} ${attempt}`;
}

function compare(a: string, b: string): number {
  return a === b ? 0 : a < b ? -1 : 1;
}
