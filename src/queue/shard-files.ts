import { access, readFile } from "node:fs/promises";
import * as z from "zod";
import type { Clock } from "../base/clock.ts";
import { isMissing } from "../base/errors.ts";
import type { BatchId, LeafId, ShardId } from "../run/ids.ts";
import type { RunLayout } from "../run/layout.ts";
import { isLater, parseEntryName } from "./entry.ts";
import { listIfThere } from "./exclusive.ts";
import { type Batch, type BatchState, UnknownShardError } from "./queue.ts";
import { QueueDamagedError, QueueMissingError } from "./queue-error.ts";

/** What publish writes: immutable. */
const ShardSpec = z.strictObject({
  schema_version: z.literal(1),
  shard: z.string(),
  batches: z.array(z.strictObject({ id: z.string(), leaves: z.array(z.string()) })),
});

/** What fold leaves of a shard: the attempt that settled each batch. */
const ShardSummary = z.strictObject({
  schema_version: z.literal(1),
  shard: z.string(),
  attempts: z.record(z.string(), z.int().positive()),
});

/** A shard as published. */
export interface Spec {
  readonly shard: ShardId;
  readonly batches: readonly Batch[];
  readonly byId: ReadonlyMap<BatchId, Batch>;
}

/** Where the batches of a shard stand: every batch of the spec, exactly once. */
export interface Survey {
  readonly phase: "unopened" | "open" | "folded";
  readonly states: ReadonlyMap<BatchId, BatchState>;
}

export function renderSpec(shard: ShardId, batches: readonly Batch[]): string {
  return `${JSON.stringify({ schema_version: 1, shard, batches })}\n`;
}

export function renderSummary(shard: ShardId, states: Survey["states"]): string {
  const attempts = Object.fromEntries([...states].map(([id, { attempt }]) => [id, attempt]));
  const summary: z.input<typeof ShardSummary> = { schema_version: 1, shard, attempts };
  return `${JSON.stringify(summary)}\n`;
}

/** @throws {UnknownShardError} @throws {QueueMissingError} when the whole queue is gone. */
export async function readSpec(layout: RunLayout, epoch: number, shard: ShardId): Promise<Spec> {
  const path = layout.shard(epoch, shard).spec;
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (error) {
    if (!isMissing(error)) throw error;
    await assertQueueIsThere(layout);
    throw new UnknownShardError(shard);
  }
  const batches = ShardSpec.parse(JSON.parse(text)).batches.map((batch) => ({
    id: batch.id as BatchId,
    leaves: batch.leaves as LeafId[],
  }));
  return { shard, batches, byId: new Map(batches.map((batch) => [batch.id, batch])) };
}

export async function assertQueueIsThere(layout: RunLayout): Promise<void> {
  try {
    await access(layout.epochs);
  } catch (cause) {
    if (isMissing(cause)) throw new QueueMissingError(layout.queue, { cause });
    throw cause;
  }
}

async function readSummary(path: string): Promise<Map<BatchId, BatchState>> {
  const { attempts } = ShardSummary.parse(JSON.parse(await readFile(path, "utf8")));
  return new Map(
    Object.entries(attempts).map(([id, attempt]) => [id as BatchId, { kind: "done", attempt }]),
  );
}

/** Scans after which a batch that was never seen counts as gone; the pauses between them add up to some 5 s. */
const maxScans = 100;

/**
 * Reads where every batch of a shard stands. A scan beside renames may miss an entry or give it twice (readdir(3)), so
 * scans are merged, the later state of a batch winning, until none is missing.
 * @throws {QueueDamagedError} when a batch is nowhere.
 */
export async function surveyShard(
  layout: RunLayout,
  epoch: number,
  spec: Spec,
  clock: Clock,
): Promise<Survey> {
  const { entries, folded } = layout.shard(epoch, spec.shard);
  const states = new Map<BatchId, BatchState>();
  for (let scan = 1; ; scan++) {
    const names = await listIfThere(entries);
    if (names === undefined) {
      // The specification is read again: it may be gone with everything else.
      await access(layout.shard(epoch, spec.shard).spec).catch(() =>
        readSpec(layout, epoch, spec.shard),
      );
      const ready: BatchState = { kind: "ready", attempt: 1 };
      return { phase: "unopened", states: new Map(spec.batches.map(({ id }) => [id, ready])) };
    }
    if (names.includes("folded.json")) {
      return { phase: "folded", states: await readSummary(folded) };
    }
    for (const name of names) {
      const entry = parseEntryName(name);
      if (entry === undefined || !spec.byId.has(entry.batch)) continue;
      const known = states.get(entry.batch);
      if (known === undefined || isLater(entry.state, known)) states.set(entry.batch, entry.state);
    }
    if (states.size === spec.batches.length) return { phase: "open", states };
    if (scan === maxScans) {
      const missing = spec.batches.map(({ id }) => id).filter((id) => !states.has(id));
      throw new QueueDamagedError(entries, missing);
    }
    await clock.sleep(Math.min(scan - 1, 50));
  }
}
