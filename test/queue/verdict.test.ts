import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdir, writeFile } from "node:fs/promises";
import { test } from "node:test";
import { processStartTime } from "../../src/base/proc.ts";
import { startGroup } from "../../src/base/spawn.ts";
import {
  identifyThisProcess,
  type OwnerRecord,
  renderOwnerRecord,
} from "../../src/queue/owner-record.ts";
import type { Verdict } from "../../src/queue/queue.ts";
import { OwnerWatch } from "../../src/queue/verdict.ts";
import type { OwnerId } from "../../src/run/ids.ts";
import { RunLayout } from "../../src/run/layout.ts";
import { ManualClock } from "../support/manual-clock.ts";
import { temporaryDirectory } from "../support/temporary.ts";
import { until } from "../support/until.ts";

let count = 0;

/** An owner of its own name, whose record a test writes. */
async function place(slurm?: (record: OwnerRecord) => Promise<Verdict>) {
  const directory = await temporaryDirectory();
  const layout = new RunLayout(directory.path);
  await mkdir(layout.heartbeats, { recursive: true });
  const owner = `verdict-test-${process.pid}-${count++}` as OwnerId;
  const clock = new ManualClock();
  const identity = { ...(await identifyThisProcess("watcher")), host: "node1" };
  const watch = new OwnerWatch({ layout, here: identity, clock, ...(slurm && { slurm }) });
  return {
    owner,
    clock,
    watch,
    write: async (record: Partial<OwnerRecord>) => {
      const whole: OwnerRecord = { ...identity, owner, state: "live", beat: 0, ...record };
      await writeFile(layout.heartbeat(owner), renderOwnerRecord(whole));
    },
    judge: () => watch.judge(owner),
    [Symbol.asyncDispose]: () => directory[Symbol.asyncDispose](),
  };
}

/** A process that runs until it is killed. */
function startSleeper(owner: string) {
  return startGroup("sleep", ["1000"], { env: { ...process.env, EH_OWNER: owner } });
}

test("on this machine an owner lives as long as its process does", async () => {
  await using at = await place();
  await using process = await startSleeper("nobody");
  const start_time = (await processStartTime(process.pid)) as string;
  await at.write({ pid: process.pid, start_time });
  assert.equal(await at.judge(), "alive");
  await at.write({ pid: process.pid, start_time: "1" });
  assert.equal(await at.judge(), "dead", "a later process with its pid is not the owner");
  await at.write({ pid: process.pid, start_time });
  await process.stop({ graceMs: 0 });
  assert.equal(await at.judge(), "dead");
});

test("a dead owner's remains are killed before it is called dead", async () => {
  await using at = await place();
  const remains = await startSleeper(at.owner);
  await using bystander = await startSleeper(`${at.owner}0`);
  await at.write({ pid: 2 ** 22 + 1, start_time: "1" });
  assert.equal(await at.judge(), "dead");
  assert.equal((await remains.exited).signal, "SIGKILL");
  assert.equal(bystander.signal("SIGCONT"), true);
});

test("an owner whose machine has started again is dead", async () => {
  await using at = await place();
  await at.write({ boot_id: "an earlier one" });
  assert.equal(await at.judge(), "dead");
});

test("an owner that said good-bye is dead", async () => {
  await using at = await place();
  await at.write({ host: "node2", state: "ended" });
  assert.equal(await at.judge(), "dead");
});

test("an owner elsewhere is dead after 900 s without a beat, on the watcher's own clock", async () => {
  await using at = await place();
  await at.write({ host: "node2" });
  assert.equal(await at.judge(), "unknown");
  for (let waitedMs = 0; waitedMs < 880_000; waitedMs += 20_000) {
    at.clock.advance(20_000);
    assert.equal(await at.judge(), "unknown", `after ${waitedMs} ms`);
  }
  await at.write({ host: "node2", beat: 1 });
  at.clock.advance(20_000);
  assert.equal(await at.judge(), "alive");
  for (let waitedMs = 0; waitedMs < 880_000; waitedMs += 20_000) {
    at.clock.advance(20_000);
    assert.equal(await at.judge(), "unknown");
  }
  at.clock.advance(20_000);
  assert.equal(await at.judge(), "dead");
});

test("another container on this machine is judged by its beat, not by its pids", async () => {
  await using at = await place();
  await at.write({ pid_namespace: "pid:[1]", pid: 2 ** 22 + 1 });
  assert.equal(await at.judge(), "unknown");
});

test("a watcher that was itself stopped has not watched", async () => {
  await using at = await place();
  await at.write({ host: "node2" });
  await at.judge();
  at.clock.advance(24 * 3_600_000);
  assert.equal(await at.judge(), "unknown");
});

test("an owner without a record is waited for as long as a silent one", async () => {
  await using at = await place();
  const verdicts: Verdict[] = [];
  for (let looks = 0; looks <= 15; looks++) {
    verdicts.push(await at.judge());
    at.clock.advance(60_000);
  }
  assert.deepEqual(new Set(verdicts.slice(0, 15)), new Set(["unknown"]));
  assert.equal(verdicts[15], "dead");
});

test("an owner that hangs on this machine for 900 s is killed, then dead", async () => {
  await using at = await place();
  const stopped = spawn("sleep", ["1000"]);
  const ended = new Promise((resolve) => stopped.once("exit", (_, signal) => resolve(signal)));
  const pid = stopped.pid as number;
  process.kill(pid, "SIGSTOP");
  const start_time = await until(() => processStartTime(pid));
  await at.write({ pid, start_time });
  for (let looks = 0; looks < 15; looks++) {
    assert.equal(await at.judge(), "alive");
    at.clock.advance(60_000);
  }
  assert.equal(await at.judge(), "dead");
  assert.equal(await ended, "SIGKILL");
});

test("an owner that said good-bye is dead, and its process is left alone: it may have more to do", async () => {
  await using at = await place();
  await using process = await startSleeper("nobody");
  const start_time = (await processStartTime(process.pid)) as string;
  await at.write({ pid: process.pid, start_time, state: "ended" });
  assert.equal(await at.judge(), "dead");
  assert.equal(await processStartTime(process.pid), start_time);
});

test("Slurm's word that a job has ended is enough; anything else leaves it to the beat", async () => {
  let word: Verdict = "unknown";
  await using at = await place(async ({ job }) => (job === "77" ? word : "unknown"));
  await at.write({ host: "node2", job: "77" });
  assert.equal(await at.judge(), "unknown");
  word = "alive";
  assert.equal(await at.judge(), "unknown");
  word = "dead";
  assert.equal(await at.judge(), "dead");
});

test("nobody calls itself dead", async () => {
  await using at = await place();
  assert.equal(await at.watch.judge("watcher" as OwnerId), "alive");
});
