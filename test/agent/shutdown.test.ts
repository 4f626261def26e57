import assert from "node:assert/strict";
import { EventEmitter } from "node:events";
import { describe, test } from "node:test";
import { listenToSignals, Shutdown } from "../../src/agent/shutdown.ts";

/** What has become of a shutdown after these signals. */
function after(...signals: NodeJS.Signals[]): string {
  const shutdown = new Shutdown();
  const source = new EventEmitter();
  const unlisten = listenToSignals(shutdown, source);
  for (const signal of signals) source.emit(signal);
  unlisten();
  assert.deepEqual(source.eventNames(), []);
  const stage = shutdown.aborting.aborted
    ? "aborting"
    : shutdown.draining.aborted
      ? "draining"
      : "running";
  return `${stage}: ${shutdown.reason}`;
}

describe("a signal", () => {
  test("of the time limit drains", () => {
    assert.equal(after("SIGUSR2"), "draining: time-limit");
    assert.equal(after("SIGUSR1"), "draining: time-limit");
  });

  test("of a person drains, and aborts when it comes twice", () => {
    assert.equal(after("SIGINT"), "draining: interrupted");
    assert.equal(after("SIGINT", "SIGINT"), "aborting: interrupted");
  });

  test("to end aborts, and keeps the reason of the draining before it", () => {
    assert.equal(after("SIGTERM"), "aborting: interrupted");
    assert.equal(after("SIGUSR2", "SIGTERM"), "aborting: time-limit");
  });

  test("of a lost terminal aborts for that reason", () => {
    assert.equal(after("SIGHUP"), "aborting: parent-lost");
    assert.equal(after("SIGUSR2", "SIGHUP"), "aborting: parent-lost");
  });
});

describe("a shutdown", () => {
  test("tells each stage once, draining with aborting at the latest", () => {
    const shutdown = new Shutdown();
    const told: string[] = [];
    shutdown.draining.addEventListener("abort", () => told.push("draining"));
    shutdown.aborting.addEventListener("abort", () => told.push("aborting"));
    shutdown.abort("interrupted");
    shutdown.drain("time-limit");
    shutdown.abort("parent-lost");
    assert.deepEqual(told, ["draining", "aborting"]);
    assert.equal(shutdown.reason, "interrupted");
  });

  test("keeps the first error that nobody can handle", () => {
    const shutdown = new Shutdown();
    shutdown.drain("time-limit");
    shutdown.fail(new Error("first"));
    shutdown.fail(new Error("second"));
    assert.deepEqual(
      [shutdown.reason, shutdown.failure?.message, shutdown.aborting.aborted],
      ["failed", "first", true],
    );
  });
});
