import { secondsSince } from "../base/clock.ts";
import { TaskGroup } from "../base/task-group.ts";
import type { Queue } from "../queue/queue.ts";
import { recordUnitFailure } from "../queue/stopped-units.ts";
import { foldStrikes } from "../queue/strikes.ts";
import type { BatchDeps, ReleaseReason } from "./batch-run.ts";
import { Breaker } from "./breaker.ts";
import { type LaneDeps, runLane } from "./lane.ts";
import { pardon } from "./leaf-failures.ts";
import { SlotRoom } from "./slot-room.ts";
import { sweepLeftovers } from "./sweep.ts";
import { openLeaves, readOpenLeaves, readUnitState, type WorkUnit } from "./unit.ts";
import type { BatchHarness } from "./warm-harness.ts";

/** Why a unit was given up. */
export interface UnitStop {
  readonly class: string;
  readonly reason: string;
}

export interface UnitRunDeps
  extends Pick<
    BatchDeps,
    | "unit"
    | "owner"
    | "job"
    | "request"
    | "settle"
    | "journals"
    | "disturbedSince"
    | "events"
    | "clock"
  > {
  readonly queue: Queue;
  readonly harness: BatchHarness;
  readonly slots: number;
  /** Batches at a time, with those that are prepared while others are nearly done. */
  readonly lanes: number;
  readonly reap: () => Promise<boolean>;
  readonly isGone: (owner: string) => boolean;
  /** Starts or keeps what the unit's requests need; told when that is in vain. */
  readonly begin: (onFailed: (stop: UnitStop) => void) => void;
  readonly end: () => Promise<void>;
  /** Finish the leaf at hand, then stop. */
  readonly draining: AbortSignal;
  /** Stop now. It implies draining. */
  readonly aborting: AbortSignal;
}

export type UnitOutcome =
  /** Nothing is ready any more; others may hold some. */
  | { readonly kind: "ended"; readonly open: number }
  | { readonly kind: "stopped"; readonly stop: UnitStop }
  | { readonly kind: "interrupted" };

/** Works on one unit until nothing is ready, it is given up, or it is time to stop. */
export async function runUnit(deps: UnitRunDeps): Promise<UnitOutcome> {
  const { unit, events, clock, job } = deps;
  const subject = { unit: unit.planned.id, job };
  const startedAt = clock.monotonic();
  await events.publish("unit.started", subject, {
    generation: unit.planned.generations.at(-1) ?? 0,
  });
  const stop = await runLanes(deps);
  // Also when it is not done: nobody will know this owner as gone once it has said good-bye.
  await sweepLeftovers(unit.directory, { now: clock.now(), isGone: deps.isGone });
  await deps.journals?.sweep(await readOpenLeaves(unit));
  if (stop !== undefined) {
    const body = { reason: stop.reason, class: stop.class };
    const record = { ...body, owner: deps.owner, at: new Date(clock.now()).toISOString() };
    const n = await recordUnitFailure(unit.layout, unit.planned.id, record);
    await events.publish("unit.failed", subject, { ...body, n });
    return { kind: "stopped", stop };
  }
  if (deps.draining.aborted) return { kind: "interrupted" };
  for (const shard of unit.shards) await deps.queue.fold(shard);
  const counts = await countLeaves(unit);
  if (counts.open === 0) await foldStrikes(unit.layout, unit.planned.id);
  const duration_s = secondsSince(clock, startedAt);
  await events.publish("unit.ended", subject, { ...counts, duration_s });
  return { kind: "ended", open: counts.open };
}

/** @returns why the unit was given up, if it was. */
async function runLanes(deps: UnitRunDeps): Promise<UnitStop | undefined> {
  const { unit, clock, draining, aborting } = deps;
  const stopping = new AbortController();
  let stopped: UnitStop | undefined;
  const stop = (why: UnitStop): void => {
    // What ends while everything is ended is no reason.
    if (aborting.aborted) return;
    stopped ??= why;
    stopping.abort(new DOMException(`Unit stopped: ${why.reason}`, "AbortError"));
  };
  const { coverage } = await readUnitState(unit);
  await using group = new TaskGroup();
  const ending = AbortSignal.any([aborting, stopping.signal, group.signal]);
  const laneDeps: LaneDeps = {
    ...deps,
    breaker: new Breaker({ slots: deps.slots, proven: coverage.done.size > 0 }),
    room: new SlotRoom(deps.slots),
    ending,
    yielding: AbortSignal.any([ending, draining]),
    releaseReason: (): ReleaseReason => {
      // A server that was healthy may have died of the leaf at hand.
      if (stopped !== undefined)
        return stopped.class === "server-crash-loop" ? "server-lost" : "unit-stopped";
      return aborting.aborted ? "aborted" : "draining";
    },
    onTrip: async (trip) => {
      stop(trip);
      await pardon({ unit, clock }, trip.leaves);
    },
  };
  deps.begin(stop);
  try {
    for (let lane = 0; lane < deps.lanes; lane++) group.start(() => runLane(laneDeps));
    await group.join();
  } finally {
    await deps.end();
  }
  return stopped;
}

async function countLeaves(
  unit: WorkUnit,
): Promise<{ done: number; invalid: number; dead: number; open: number }> {
  const state = await readUnitState(unit);
  return {
    done: state.coverage.done.size,
    invalid: state.coverage.invalid.size,
    dead: state.dead.size,
    open: openLeaves(unit, state).length,
  };
}
