import assert from "node:assert/strict";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { test } from "node:test";
import { systemClock } from "../../src/base/clock.ts";
import { readTextIfThere } from "../../src/base/files.ts";
import { startGroup } from "../../src/base/spawn.ts";
import { identifyThisProcess, parseOwnerRecord } from "../../src/queue/owner-record.ts";
import { ownersOf, reapShard } from "../../src/queue/reap.ts";
import { OwnerWatch } from "../../src/queue/verdict.ts";
import type { OwnerId, ShardId } from "../../src/run/ids.ts";
import { RunLayout } from "../../src/run/layout.ts";
import { batchesOf } from "../contract/queue-child.ts";
import { isLong } from "../support/require.ts";
import { until } from "../support/until.ts";
import { fsBackend, openAt } from "./fs-backend.ts";

const shard = "model--main.g1" as ShardId;

interface WorkerOptions {
  readonly holdMs: number;
  readonly beatMs: number;
  readonly killAt?: number;
}

async function startWorker(directory: string, owner: string, options: WorkerOptions) {
  const { holdMs, beatMs, killAt } = options;
  const preload =
    killAt === undefined ? [] : ["--import", join(import.meta.dirname, "interrupt-calls.ts")];
  const program = join(import.meta.dirname, "worker-child.ts");
  const group = await startGroup(
    process.execPath,
    [...preload, program, directory, owner, shard, String(holdMs), String(beatMs)],
    {
      env: { ...process.env, EH_OWNER: owner, EH_KILL_AT: String(killAt ?? 0) },
      stdout: "pipe",
    },
  );
  return { group, owner, said: text(group.stdout as NonNullable<typeof group.stdout>) };
}

async function watchAt(directory: string): Promise<OwnerWatch> {
  const here = await identifyThisProcess("watcher");
  return new OwnerWatch({ layout: new RunLayout(directory), here, clock: systemClock });
}

test("workers that are killed at random lose no batch, and settle none twice", async () => {
  await using place = await fsBackend.place();
  await using queue = await openAt(place.address);
  const ids = Array.from({ length: 120 }, (_, n) => `b${n}`);
  await queue.publish(shard, batchesOf(ids));
  const watch = await watchAt(place.address);
  const options = { holdMs: 20, beatMs: 50 };
  const start = (n: number) => startWorker(place.address, `worker-${process.pid}-${n}`, options);
  const workers = await Promise.all([0, 1, 2].map(start));
  let returned = 0;
  for (let n = 0; n < 6; n++) {
    const victim = workers[n] as (typeof workers)[number];
    // It holds a batch, so that something is lost with it.
    await until(async () => ownersOf(await queue.census(shard)).includes(victim.owner as OwnerId));
    victim.group.signal("SIGKILL");
    await victim.group.exited;
    const reaped = await reapShard(queue, shard, (owner) => watch.judge(owner));
    // Between two batches it held none.
    for (const [owner, batches] of reaped) {
      assert.equal(owner, victim.owner, "the living keep theirs");
      returned += batches.length;
    }
    workers.push(await start(n + 3));
  }
  await Promise.all(workers.map(({ group }) => group.exited));
  const states = [...(await queue.census(shard)).batches.values()];
  const settled = (await Promise.all(workers.map(({ said }) => said))).join("").trim().split("\n");
  assert.ok(states.every(({ kind }) => kind === "done"));
  assert.equal(new Set(settled).size, settled.length, "a batch was settled twice");
  assert.ok(
    settled.length >= ids.length - 6,
    "only a killed worker may not have said what it settled",
  );
  const again = states.reduce((sum, { attempt }) => sum + attempt - 1, 0);
  assert.equal(again, returned, "a batch has one attempt more for each time it was returned");
});

test("an owner killed at any step of its first beats is found dead at once, and holds nothing unseen", async () => {
  const all = Array.from({ length: 40 }, (_, n) => n + 1);
  const offset = Math.floor(Math.random() * 3);
  const steps = isLong ? all : all.filter((n) => n % 3 === offset);
  for (let from = 0; from < steps.length; from += 4) {
    await Promise.all(steps.slice(from, from + 4).map(killAndJudge));
  }
});

async function killAndJudge(killAt: number): Promise<void> {
  await using place = await fsBackend.place();
  await using queue = await openAt(place.address);
  await queue.publish(shard, batchesOf(["b1"]));
  const owner = `beating-${process.pid}-${killAt}` as OwnerId;
  // It holds its batch for longer than it lives: what it does then is beat.
  const options = { holdMs: 60_000, beatMs: 5, killAt };
  await using worker = (await startWorker(place.address, owner, options)).group;
  assert.equal((await worker.exited).signal, "SIGKILL");
  const record = await readTextIfThere(new RunLayout(place.address).heartbeat(owner));
  const holds = ownersOf(await queue.census(shard));
  if (record === undefined) return assert.deepEqual(holds, [], "a claim came before the heartbeat");
  assert.equal(parseOwnerRecord(record)?.pid, worker.pid);
  const watch = await watchAt(place.address);
  assert.equal(await watch.judge(owner), "dead", `killed at step ${killAt}`);
  await reapShard(queue, shard, (one) => watch.judge(one));
  assert.ok((await queue.claim(shard, "next" as OwnerId)) !== undefined);
}
