import assert from "node:assert/strict";
import { text } from "node:stream/consumers";
import { describe, test } from "node:test";
import { isRunning, processesWithEnvironment, processStartTime } from "../../src/base/proc.ts";
import { runToEnd, SpawnError, startGroup } from "../../src/base/spawn.ts";
import { until } from "../support/until.ts";

const env = { PATH: process.env.PATH };

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
