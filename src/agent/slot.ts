import type { Lease, Queue } from "../queue/queue.ts";
import type { OwnerId, ShardId } from "../run/ids.ts";
import { type BatchDeps, BatchRun } from "./batch-run.ts";

/** Knows how many slots hold a batch, so that an idle one can tell whether work may still come back from another. */
export class SlotRoom {
  #busy = 0;
  #changed = Promise.withResolvers<void>();

  get busy(): number {
    return this.#busy;
  }

  enter(): void {
    this.#busy += 1;
  }

  leave(): void {
    this.#busy -= 1;
    this.#changed.resolve();
    this.#changed = Promise.withResolvers();
  }

  /** Resolves when a slot has given up its batch: never for a slot that only looked, or idle ones would wake each other. */
  async change(): Promise<void> {
    await this.#changed.promise;
  }
}

export interface SlotDeps extends BatchDeps {
  readonly queue: Queue;
  readonly room: SlotRoom;
  /** Returns batches of dead owners to the queue. @returns true when there were any. */
  readonly reap: () => Promise<boolean>;
}

/** Evaluates batches one at a time until the unit has none left, or it is time to stop. */
export async function runSlot(deps: SlotDeps, slot: number): Promise<void> {
  const { room, queue, owner, unit, yielding } = deps;
  while (!yielding.aborted) {
    if (await workOnNext()) continue;
    if (await deps.reap()) continue;
    // Only another slot of ours can bring work back now.
    if (room.busy === 0) return;
    await room.change();
  }

  /** @returns false when no batch is ready. */
  async function workOnNext(): Promise<boolean> {
    await using lease = await claimNext(queue, unit.shards, owner);
    if (lease === undefined) return false;
    room.enter();
    try {
      await useLease(deps, lease, slot);
    } finally {
      room.leave();
    }
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

async function useLease(deps: SlotDeps, lease: Lease, slot: number): Promise<void> {
  const { clock, events, unit, job } = deps;
  const startedAt = clock.monotonic();
  const run = new BatchRun(deps, lease, slot);
  const outcome = await run.evaluate();
  const reason = outcome.kind === "released" ? outcome.reason : undefined;
  // Leaf files hold the results already: a crash from here on costs the next owner one look, never a result.
  const held =
    reason === undefined
      ? await lease.finish()
      : await lease.release(reason === "failed-leaves" ? "dropped" : reason);
  const counts = await run.settle();
  await events.publish(
    "batch.ended",
    { unit: unit.planned.id, batch: lease.batch.id, attempt: lease.attempt, job },
    {
      slot,
      outcome: held ? outcome.kind : "lost",
      ...(reason !== undefined && { reason }),
      duration_s: (clock.monotonic() - startedAt) / 1000,
      requests: counts?.answered ?? null,
      prompt_tokens: counts?.prompt_tokens ?? null,
      completion_tokens: counts?.completion_tokens ?? null,
      cpu_s: run.cpuS,
    },
  );
}
