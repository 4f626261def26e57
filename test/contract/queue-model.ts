import assert from "node:assert/strict";
import fc from "fast-check";
import type { Lease, Queue } from "../../src/queue/queue.ts";
import type { OwnerId, ShardId } from "../../src/run/ids.ts";
import type { QueueBackend } from "./queue-backend.ts";
import { batchesOf } from "./queue-child.ts";

const shard = "model--main.g1" as ShardId;
const ids = ["b1", "b2", "b3", "b4"];
const owners = ["alice", "bob"] as OwnerId[];

type Step =
  | { readonly do: "claim" | "reclaim"; readonly owner: number }
  /** `nth` of the leases that were ever given. */
  | { readonly do: "finish" | "release"; readonly nth: number }
  | { readonly do: "fold" };

const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 4, arbitrary: fc.record({ do: fc.constant("claim"), owner: fc.nat(1) }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant("finish"), nth: fc.nat(20) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("release"), nth: fc.nat(20) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("reclaim"), owner: fc.nat(1) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("fold") }) },
) as fc.Arbitrary<Step>;

interface ModelBatch {
  kind: "ready" | "owned" | "done";
  attempt: number;
  owner: OwnerId | undefined;
}

/** The queue as it would be without files, processes and failures. */
class Model {
  readonly batches = new Map<string, ModelBatch>(
    ids.map((id) => [id, { kind: "ready", attempt: 1, owner: undefined }]),
  );
  readonly leases: Lease[] = [];
  /** How each lease ended, by its own doing. */
  readonly ended = new Map<Lease, "finish" | "release">();
  folded = false;

  holds(lease: Lease): boolean {
    const batch = this.batches.get(lease.batch.id) as ModelBatch;
    return batch.kind === "owned" && batch.attempt === lease.attempt;
  }

  release(batch: ModelBatch): void {
    Object.assign(batch, { kind: "ready", attempt: batch.attempt + 1, owner: undefined });
  }
}

async function claim(queue: Queue, model: Model, owner: OwnerId): Promise<void> {
  const lease = await queue.claim(shard, owner);
  const ready = [...model.batches].filter(([, batch]) => batch.kind === "ready");
  if (lease === undefined) return assert.equal(ready.length, 0, "a ready batch was not offered");
  const batch = ready.find(([id]) => id === lease.batch.id)?.[1];
  assert.equal(batch?.attempt, lease.attempt, "what was claimed was not ready");
  Object.assign(batch as ModelBatch, { kind: "owned", owner });
  model.leases.push(lease);
}

async function end(model: Model, how: "finish" | "release", nth: number): Promise<void> {
  const lease = model.leases[nth];
  if (lease === undefined) return;
  const held = model.holds(lease);
  const again = model.ended.get(lease) === how;
  const answer = how === "finish" ? await lease.finish() : await lease.release();
  assert.equal(answer, held || again);
  if (!held) return;
  model.ended.set(lease, how);
  const batch = model.batches.get(lease.batch.id) as ModelBatch;
  if (how === "finish") Object.assign(batch, { kind: "done", owner: undefined });
  else model.release(batch);
}

async function reclaim(queue: Queue, model: Model, owner: OwnerId): Promise<void> {
  const held = [...model.batches].filter(([, batch]) => batch.owner === owner);
  assert.deepEqual([...(await queue.reclaim(shard, owner))].sort(), held.map(([id]) => id).sort());
  for (const [, batch] of held) model.release(batch);
}

async function fold(queue: Queue, model: Model): Promise<void> {
  const done = [...model.batches.values()].every(({ kind }) => kind === "done");
  assert.equal(await queue.fold(shard), done && !model.folded);
  model.folded ||= done;
}

async function compare(queue: Queue, model: Model): Promise<void> {
  const census = await queue.census(shard);
  assert.equal(census.folded, model.folded);
  const seen = [...census.batches].map(([id, state]) => [
    id,
    { owner: undefined, ...state } satisfies ModelBatch,
  ]);
  assert.deepEqual(seen, [...model.batches]);
}

/** Runs random sequences of calls by two owners against the queue and a model of it. */
export async function checkAgainstModel(backend: QueueBackend, runs: number): Promise<void> {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 30 }), async (steps) => {
      await using place = await backend.place();
      const queues = [await place.open(), await place.open()] as const;
      await queues[0].publish(shard, batchesOf(ids));
      const model = new Model();
      for (const one of steps) {
        const queue = queues["owner" in one && one.owner === 1 ? 1 : 0];
        if (one.do === "fold") await fold(queue, model);
        else if ("nth" in one) await end(model, one.do, one.nth);
        else
          await (one.do === "claim" ? claim : reclaim)(queue, model, owners[one.owner] as OwnerId);
        await compare(queues[1], model);
      }
      for (const queue of queues) await queue[Symbol.asyncDispose]();
    }),
    { numRuns: runs },
  );
}
