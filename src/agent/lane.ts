import { secondsSince } from "../base/clock.ts";
import type { Lease, Queue } from "../queue/queue.ts";
import type { OwnerId, ShardId } from "../run/ids.ts";
import { type BatchDeps, BatchRun } from "./batch-run.ts";
import type { Place } from "./places.ts";
import type { SlotRoom } from "./slot-room.ts";
import { Turn } from "./turn.ts";

export interface LaneDeps extends BatchDeps {
  readonly queue: Queue;
  readonly room: SlotRoom;
  /** Returns batches of dead owners to the queue. @returns true when there were any. */
  readonly reap: () => Promise<boolean>;
}

/**
 * Evaluates batches one at a time until the unit has none left, or it is time to stop. A lane that fails keeps its places:
 * whoever ends them all should find nobody who has just begun.
 */
export async function runLane(deps: LaneDeps): Promise<void> {
  const { room, queue, owner, unit, yielding } = deps;
  for (;;) {
    const place = await room.places.take(yielding);
    if (place === undefined) return;
    // What comes back while we look is looked for again.
    const { left } = room;
    const isAtEnd = !(await workOnNext(place)) && !(await deps.reap());
    // As far as this agent knows, only another lane of ours can bring work back now.
    const isOver = isAtEnd && room.busy === 0;
    if (isAtEnd && !isOver) await room.moreLeft(left, yielding);
    place[Symbol.dispose]();
    if (isOver) return;
  }

  /** @returns false when no batch is ready. */
  async function workOnNext(place: Place): Promise<boolean> {
    await using lease = await claimNext(queue, unit.shards, owner);
    if (lease === undefined) return false;
    room.enter();
    await useLease(deps, lease, place);
    room.leave();
    return true;
  }
}

async function claimNext(
  queue: Queue,
  shards: readonly ShardId[],
  owner: OwnerId,
): Promise<Lease | undefined> {
  for (const shard of shards) {
    const lease = await queue.claim(shard, owner);
    if (lease !== undefined) return lease;
  }
  return undefined;
}

async function useLease(deps: LaneDeps, lease: Lease, place: Place): Promise<void> {
  const { clock, events, unit, job, room, yielding } = deps;
  const startedAt = clock.monotonic();
  const turn = new Turn(room, place, yielding);
  const run = new BatchRun(deps, lease, turn);
  const outcome = await run.evaluate();
  turn.end();
  const reason = outcome.kind === "released" ? outcome.reason : undefined;
  // Leaf files hold the results already: a crash from here on costs the next owner one look, never a result.
  const held = reason === undefined ? await lease.finish() : await lease.release();
  const counts = await run.settle();
  await events.publish(
    "batch.ended",
    { unit: unit.planned.id, batch: lease.batch.id, attempt: lease.attempt, job },
    {
      outcome: held ? outcome.kind : "lost",
      ...(reason !== undefined && { reason }),
      duration_s: secondsSince(clock, startedAt),
      requests: counts?.answered ?? null,
      prompt_tokens: counts?.prompt_tokens ?? null,
      completion_tokens: counts?.completion_tokens ?? null,
      cpu_s: run.cpuS,
    },
  );
}
