/**
 * What the contract runs in processes of their own: `queue-child.ts <backend module> <address> <program> <JSON>`.
 * The answer is one line of JSON.
 */
import { type Completed, runToEnd } from "../../src/base/spawn.ts";
import type { Queue } from "../../src/queue/queue.ts";
import type { BatchId, LeafId, OwnerId, ShardId } from "../../src/run/ids.ts";
import type { QueueBackend, QueuePlace } from "./queue-backend.ts";

export interface Claimed {
  /** `{shard} {batch} {attempt}`, in the order of the claims. */
  readonly claims: string[];
  /** Renames tried and the like: backend-specific. */
  readonly counters?: Readonly<Record<string, number>>;
}

export interface DrainInput {
  readonly owner: string;
  /** In the order in which they are drained. */
  readonly shards: readonly string[];
}

/** Claims and finishes until nothing is ready in any of the shards. */
export async function drain(queue: Queue, { owner, shards }: DrainInput): Promise<Claimed> {
  const claims: string[] = [];
  for (const shard of shards) {
    for (;;) {
      const lease = await queue.claim(shard as ShardId, owner as OwnerId);
      if (lease === undefined) break;
      claims.push(`${shard} ${lease.batch.id} ${lease.attempt}`);
      if (!(await lease.finish())) throw new Error(`Lost ${shard} ${lease.batch.id}`);
    }
  }
  const { counters } = queue as { counters?: Claimed["counters"] };
  return { claims, ...(counters !== undefined && { counters }) };
}

export const lifeShards = ["unit--main.g1", "unit--main.g2"] as ShardId[];
export const lifeBatches = ["b1", "b2", "b3"];

/** Everything that can happen to a shard, and then to its next generation: what gets killed at every step. */
export async function live(queue: Queue, owner: string): Promise<void> {
  const [first, second] = lifeShards as [ShardId, ShardId];
  const me = owner as OwnerId;
  await queue.publish(first, batchesOf(lifeBatches));
  const released = await queue.claim(first, me);
  await released?.release();
  const finished = await queue.claim(first, me);
  await finished?.finish();
  // The next generation opens while the first has work.
  await queue.publish(second, batchesOf(lifeBatches));
  await drain(queue, { owner, shards: [first, second] });
  await queue.fold(first);
  await queue.fold(second);
}

export function batchesOf(ids: readonly string[]): { id: BatchId; leaves: LeafId[] }[] {
  return ids.map((id) => ({ id: id as BatchId, leaves: [`leaf-of-${id}` as LeafId] }));
}

/** Runs one of the two in a process of its own; `interruptions` are for the backend's preload. */
export async function runChild(
  backend: QueueBackend,
  place: QueuePlace,
  program: "drain" | "live",
  input: unknown,
  interruptions?: NodeJS.ProcessEnv,
): Promise<Completed> {
  const preload = interruptions === undefined ? [] : ["--import", backend.killer];
  return await runToEnd(
    process.execPath,
    [
      ...preload,
      import.meta.filename,
      backend.module,
      place.address,
      program,
      JSON.stringify(input),
    ],
    // A child makes one call at a time: more threads would only be in the way of the other processes.
    { env: { ...process.env, ...interruptions, UV_THREADPOOL_SIZE: "2" } },
  );
}

if (import.meta.main) {
  const [module, address, program, input] = process.argv.slice(2) as [
    string,
    string,
    string,
    string,
  ];
  const { openAt } = (await import(module)) as { openAt(address: string): Promise<Queue> };
  await using queue = await openAt(address);
  const answer =
    program === "drain"
      ? await drain(queue, JSON.parse(input) as DrainInput)
      : await live(queue, JSON.parse(input) as string);
  process.stdout.write(`${JSON.stringify(answer ?? null)}\n`);
}
