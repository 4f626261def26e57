/**
 * An agent reduced to its queue: heartbeat, then claim, hold a little, finish, until its shard has nothing ready.
 * `worker-child.ts <run directory> <owner> <shard> <hold in ms> <beat in ms>`. Says each batch that it settled.
 */
import { setTimeout as wait } from "node:timers/promises";
import { openFsQueue } from "../../src/queue/fs-queue.ts";
import { startHeartbeat } from "../../src/queue/heartbeat.ts";
import { identifyThisProcess } from "../../src/queue/owner-record.ts";
import type { OwnerId, ShardId } from "../../src/run/ids.ts";
import { RunLayout } from "../../src/run/layout.ts";

const [directory, owner, shard, holdMs, intervalMs] = process.argv.slice(2) as [
  string,
  OwnerId,
  ShardId,
  string,
  string,
];
const layout = new RunLayout(directory);
const identity = await identifyThisProcess(owner);
await using _beats = await startHeartbeat(layout, { identity, intervalMs: Number(intervalMs) });
await using queue = await openFsQueue({ layout });
for (;;) {
  await using lease = await queue.claim(shard, owner);
  if (lease === undefined) break;
  await wait(Number(holdMs));
  if (await lease.finish()) process.stdout.write(`${lease.batch.id}\n`);
}
