/** How a lead has left a run. */
import assert from "node:assert/strict";
import { readdir } from "node:fs/promises";
import { openFsQueue } from "../../src/queue/fs-queue.ts";
import type { LeadProcess, SmallRun } from "./small-run.ts";

/** `done`, `ready` or `owned` of every batch of the run. */
export async function batchStates({ layout, plan }: SmallRun): Promise<string[]> {
  await using queue = await openFsQueue({ layout });
  const kinds: string[] = [];
  for (const shard of await queue.shards()) {
    for (const { kind } of (await queue.census(shard)).batches.values()) kinds.push(kind);
  }
  assert.ok(plan.units.length > 0);
  return kinds;
}

/** After its end: nothing that it has started runs, no batch is its own, and its heartbeat is gone. */
export async function assertNothingLeft(run: SmallRun, lead: LeadProcess): Promise<void> {
  assert.deepEqual(await lead.descendants(), []);
  assert.ok(!(await batchStates(run)).includes("owned"));
  assert.deepEqual(await readdir(run.layout.heartbeats), []);
}
