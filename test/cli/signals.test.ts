import assert from "node:assert/strict";
import { EventEmitter } from "node:events";
import { test } from "node:test";
import { listenToSignals } from "../../src/cli/signals.ts";

function listen(ignoreHangup = false, gentle = false) {
  const source = new EventEmitter();
  const signals = listenToSignals(source as unknown as NodeJS.Process, { ignoreHangup, gentle });
  const stages = () => [signals.interrupted.aborted, signals.aborted.aborted, signals.exitCode()];
  return { source, stages };
}

test("the first interrupt asks to end well, the second to end now", () => {
  const { source, stages } = listen();
  assert.deepEqual(stages(), [false, false, 0]);
  source.emit("SIGINT");
  assert.deepEqual(stages(), [true, false, 130]);
  source.emit("SIGINT");
  assert.deepEqual(stages(), [true, true, 130]);
});

test("a termination and a hangup ask to end now", () => {
  for (const [signal, code] of [
    ["SIGTERM", 143],
    ["SIGHUP", 129],
  ] as const) {
    const { source, stages } = listen();
    source.emit(signal);
    assert.deepEqual(stages(), [true, true, code]);
  }
});

test("where a termination is how one stops it, the first asks to end well, too", () => {
  const { source, stages } = listen(false, true);
  source.emit("SIGTERM");
  assert.deepEqual(stages(), [true, false, 143]);
  source.emit("SIGTERM");
  assert.deepEqual(stages(), [true, true, 143]);
});

test("under nohup a hangup is nothing", () => {
  const { source, stages } = listen(true);
  source.emit("SIGHUP");
  assert.deepEqual(stages(), [false, false, 0]);
});
