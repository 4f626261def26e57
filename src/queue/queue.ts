import type { BatchId, LeafId, OwnerId, ShardId } from "../run/ids.ts";

/** What is queued and leased as one: one unit and some of its leaves, longest expected first. */
export interface Batch {
  readonly id: BatchId;
  readonly leaves: readonly LeafId[];
}

/** Exclusive hold on one batch. Disposing an unsettled lease returns the batch at once. */
export interface Lease extends AsyncDisposable {
  readonly shard: ShardId;
  readonly batch: Batch;
  /** 1 on first delivery, then counting up; the fencing token. */
  readonly attempt: number;
  /**
   * Says that every leaf of the batch is settled. Doing it twice is harmless.
   * @returns false when this lease was lost meanwhile: the batch is somebody else's, or already done.
   */
  finish(): Promise<boolean>;
  /** Back to ready with attempt + 1, which is never counted against the batch. @returns false when this lease was lost meanwhile. */
  release(): Promise<boolean>;
}

export type BatchState =
  | { readonly kind: "ready"; readonly attempt: number }
  | { readonly kind: "owned"; readonly attempt: number; readonly owner: OwnerId }
  | { readonly kind: "done"; readonly attempt: number };

/** Where every batch of a shard stands. Complete: each batch of the spec is there exactly once. */
export interface ShardCensus {
  readonly shard: ShardId;
  /** False: no agent has opened the shard yet, all batches count as ready with attempt 1. */
  readonly opened: boolean;
  /** True: the unit is settled and its shard was folded into a summary; all batches are done. */
  readonly folded: boolean;
  readonly batches: ReadonlyMap<BatchId, BatchState>;
}

/** Whether an owner still lives. `unknown` means: keep waiting. */
export type Verdict = "alive" | "dead" | "unknown";

/**
 * Work still to do. Leaf files make results exactly-once; a queue only makes the work efficient: one that hands a batch
 * out twice costs time, never truth. Every call may be repeated after a crash at any step.
 */
export interface Queue extends AsyncDisposable {
  readonly epoch: number;
  /** Leases from here that have not come to an end: what can't be given back stays its owner's. */
  readonly held: number;

  /** Publishes a shard. A shard that is already there stays as it is. @returns true when this call created it. */
  publish(shard: ShardId, batches: readonly Batch[]): Promise<boolean>;

  /** Shards of this epoch, in order of their names. */
  shards(): Promise<readonly ShardId[]>;

  /** The batches of a shard as published, in order. @throws {UnknownShardError} */
  batches(shard: ShardId): Promise<readonly Batch[]>;

  /**
   * Leases a ready batch of this shard, never of another.
   * @returns undefined when none is ready now; others may still be owned. @throws {UnknownShardError}
   */
  claim(shard: ShardId, owner: OwnerId): Promise<Lease | undefined>;

  /** @throws {UnknownShardError} */
  census(shard: ShardId): Promise<ShardCensus>;

  /** Puts every batch held by `owner` back to ready with attempt + 1. The caller knows that the owner is dead. */
  reclaim(shard: ShardId, owner: OwnerId): Promise<readonly BatchId[]>;

  /**
   * Replaces a shard whose batches are all done by one summary, so that it costs one file instead of one per batch.
   * @returns false when a batch is not done, or somebody else folded it.
   */
  fold(shard: ShardId): Promise<boolean>;
}

/** Thrown when a shard was never published in this epoch. */
export class UnknownShardError extends Error {
  constructor(shard: ShardId) {
    super(`No shard "${shard}" in this epoch of the queue`);
    this.name = "UnknownShardError";
  }
}
