import type { BatchId } from "../run/ids.ts";
import type { BatchState } from "./queue.ts";

/** A batch that was ready when last looked at. */
export interface Candidate {
  readonly batch: BatchId;
  readonly attempt: number;
}

/** Claims that one listing may serve. */
const longestRun = 32;
/** How many times more batches than needed a crowd spreads over: fewer means more lost races. */
const spread = 8;

/**
 * Chooses which ready batches to try, in which order. Alone (`crowd` 0) that is the order of the specification, longest
 * expected first, with those behind that were tried more often: what fails must not keep the rest waiting. In a crowd each claimer takes a short run from a random place near the front: close to that order, and
 * seldom where another one tries.
 * @param crowd how many others claim from this shard now, about
 * @param random in [0, 1)
 */
export function chooseCandidates(
  states: Iterable<readonly [BatchId, BatchState]>,
  crowd: number,
  random: number,
): Candidate[] {
  const ready: Candidate[] = [];
  for (const [batch, state] of states) {
    if (state.kind === "ready") ready.push({ batch, attempt: state.attempt });
  }
  ready.sort((a, b) => a.attempt - b.attempt);
  if (crowd === 0) return ready.slice(0, longestRun);
  const share = Math.floor(ready.length / (spread * (crowd + 1)));
  const run = Math.min(Math.max(share, 1), longestRun);
  const pool = Math.min(ready.length, run * spread * (crowd + 1));
  const offset = Math.floor(random * Math.max(pool - run + 1, 1));
  return ready.slice(offset, offset + run);
}
