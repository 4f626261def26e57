import type { BatchId, OwnerId, ShardId } from "../run/ids.ts";
import type { Queue, ShardCensus, Verdict } from "./queue.ts";

/** Owners that hold a batch of the shard. */
export function ownersOf(census: ShardCensus): OwnerId[] {
  const owners = new Set<OwnerId>();
  for (const state of census.batches.values()) if (state.kind === "owned") owners.add(state.owner);
  return [...owners];
}

/**
 * One pass over a shard: the batches of dead owners become ready again. Several that do so at once do no harm.
 * @returns the batches that this call returned, by the owner that had them.
 */
export async function reapShard(
  queue: Queue,
  shard: ShardId,
  judge: (owner: OwnerId) => Promise<Verdict>,
): Promise<ReadonlyMap<OwnerId, readonly BatchId[]>> {
  const reaped = new Map<OwnerId, readonly BatchId[]>();
  for (const owner of ownersOf(await queue.census(shard))) {
    if ((await judge(owner)) !== "dead") continue;
    const batches = await queue.reclaim(shard, owner);
    if (batches.length > 0) reaped.set(owner, batches);
  }
  return reaped;
}
