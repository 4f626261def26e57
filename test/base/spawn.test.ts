import assert from "node:assert/strict";
import { once } from "node:events";
import { text } from "node:stream/consumers";
import { describe, test } from "node:test";
import { systemClock } from "../../src/base/clock.ts";
import { isRunning, processesWithEnvironment, processStartTime } from "../../src/base/proc.ts";
import { runToEnd, SpawnError, startGroup } from "../../src/base/spawn.ts";
import { requirePython } from "../support/require.ts";
import { until } from "../support/until.ts";

const env = { PATH: process.env.PATH };

/** What wins a race only when nothing else does. */
async function never(ms: number): Promise<undefined> {
  await systemClock.sleep(ms);
  return undefined;
}

describe("startGroup", () => {
  test("stops the child with all that it started, however stubborn", async () => {
    const mark = `spawn-test-${process.pid}-${Date.now()}`;
    const script =
      'trap "" TERM INT; sleep 1000 & (trap "" TERM; sleep 1000) & echo up; wait; wait';
    const group = await startGroup("bash", ["-c", script], {
      env: { ...env, EH_OWNER: mark },
      stdout: "pipe",
    });
    await until(async () => (await processesWithEnvironment("EH_OWNER", mark)).length >= 3);
    const exit = await group.stop({ graceMs: 100 });
    assert.equal(exit.signal, "SIGKILL");
    assert.deepEqual(await processesWithEnvironment("EH_OWNER", mark), []);
  });

  test("gives a polite child its grace", async () => {
    const script = 'trap "echo bye; exit 7" TERM; echo up; while :; do sleep 0.05; done';
    const group = await startGroup("bash", ["-c", script], { env, stdout: "pipe" });
    assert.ok(group.stdout);
    await new Promise((resolve) => group.stdout?.once("data", resolve));
    const rest = text(group.stdout);
    assert.equal((await group.stop({ graceMs: 10_000 })).code, 7);
    assert.equal(await rest, "bye\n");
  });

  test("does not wait for a dead member of the group that nobody reaps", async (t) => {
    const python = requirePython(t);
    if (python === undefined) return;
    // The child's child leaves the group and has one in it, whose end it never asks for.
    const script = `
import os, time
group = os.getpid()
if os.fork() == 0:
    os.setpgid(0, 0)
    if os.fork() == 0:
        os.setpgid(0, group)
        os._exit(0)
    time.sleep(0.2)
    print(os.getpid(), flush=True)
time.sleep(1000)
`;
    const group = await startGroup(python, ["-c", script], { env, stdout: "pipe" });
    const [line] = (await once(group.stdout as NonNullable<typeof group.stdout>, "data")) as [
      Buffer,
    ];
    const stopping = group.stop({ graceMs: 5_000 });
    const first = await Promise.race([stopping, never(4_000)]);
    process.kill(Number(line), "SIGKILL");
    assert.deepEqual(first, { code: undefined, signal: "SIGTERM" });
  });

  test("says which program can't be started", async () => {
    await assert.rejects(startGroup("/no/such/program", [], { env }), SpawnError);
  });

  test("inherits nothing but what it is given", async () => {
    const { stdout } = await runToEnd("/usr/bin/env", [], { env: { ONLY: "this" } });
    assert.equal(stdout, "ONLY=this");
  });
});

describe("runToEnd", () => {
  test("kills the program with all of its group when the signal aborts", async () => {
    const mark = `run-to-end-${process.pid}-${Date.now()}`;
    const stop = new AbortController();
    const running = runToEnd("bash", ["-c", "sleep 1000 & sleep 1000"], {
      env: { ...env, TEST_MARK: mark },
      signal: stop.signal,
    });
    await until(async () => (await processesWithEnvironment("TEST_MARK", mark)).length === 3);
    stop.abort();
    assert.equal((await running).signal, "SIGKILL");
    await until(async () => (await processesWithEnvironment("TEST_MARK", mark)).length === 0);
  });
});

describe("isRunning", () => {
  test("tells a process from a later one with its pid", async () => {
    const startTime = await processStartTime(process.pid);
    assert.ok(startTime);
    assert.equal(await isRunning({ pid: process.pid, startTime }), true);
    assert.equal(await isRunning({ pid: process.pid, startTime: "1" }), false);
  });
});
