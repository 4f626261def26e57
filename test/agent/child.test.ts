import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, test } from "node:test";
import { type Child, ChildLostError, type ChildOptions, keepChild } from "../../src/agent/child.ts";
import { type Clock, systemClock } from "../../src/base/clock.ts";
import { EnvironmentError } from "../../src/base/errors.ts";
import { processStartTime, sendSignal } from "../../src/base/proc.ts";
import { silentLog } from "../support/logs.ts";
import { ManualClock } from "../support/manual-clock.ts";
import { temporaryDirectory } from "../support/temporary.ts";
import { until } from "../support/until.ts";

interface Line {
  readonly type: string;
  readonly text?: string;
}

interface Kept extends AsyncDisposable {
  readonly child: Child<Line>;
  readonly said: Line[];
  readonly ends: string[];
  readonly givenUp: Error[];
}

/** A child that runs a script of bash. */
function keepScript(script: string, options: Partial<ChildOptions<Line, Line>> = {}): Kept {
  const said: Line[] = [];
  const ends: string[] = [];
  const givenUp: Error[] = [];
  const child = keepChild<Line, Line>({
    name: "test child",
    file: "bash",
    // With a socket as stdin bash would read its rc file.
    args: ["--norc", "-c", script],
    env: { PATH: process.env["PATH"] },
    cwd: "/",
    logFd: 2,
    log: silentLog,
    parse: (line) => line as Line,
    greeting: () => [{ type: "hello" }],
    onReport: (report) => said.push(report),
    onEnd: (_pid, how) => ends.push(how),
    onGivenUp: (error) => givenUp.push(error),
    closeGraceMs: 5_000,
    ...options,
  });
  return { child, said, ends, givenUp, [Symbol.asyncDispose]: () => child[Symbol.asyncDispose]() };
}

/** Says what it is told, and answers pings, until the end of its stdin. */
const echo = 'while read -r line; do echo "$line"; done';
/** Says that it is up and what it is told, but answers no ping. */
const taciturn =
  'echo \'{"type":"up"}\'; while read -r line; do [[ $line == *ping* ]] || echo "$line"; done';
/** Says its pid first. */
const pidThen = (rest: string) => `echo '{"type":"pid","text":"'$$'"}'; ${rest}`;

/** It answers, and is still the first of its kind. */
async function assertAlive({ child, said, ends }: Kept): Promise<void> {
  const order = { type: "order", text: String(said.length) };
  child.send(order);
  await until(() => said.some(({ text }) => text === order.text));
  assert.deepEqual(ends, []);
}

async function isGone(pid: number): Promise<boolean> {
  return (await processStartTime(pid)) === undefined;
}

/** Moves a clock in steps, as time does: whoever sleeps on it wakes in between. */
async function pass(clock: ManualClock, ms: number, stepMs = 1_000): Promise<void> {
  for (let passed = 0; passed < ms; passed += stepMs) {
    clock.advance(stepMs);
    // The sleepers of this step go on before the next one.
    await new Promise((resolve) => setImmediate(resolve));
  }
}

describe("a child", () => {
  test("is greeted, told what it is sent, and heard", async () => {
    await using kept = keepScript(echo);
    await until(() => kept.said.length === 1);
    kept.child.send({ type: "order", text: "go" });
    await until(() => kept.said.length === 2);
    assert.deepEqual(kept.said, [{ type: "hello" }, { type: "order", text: "go" }]);
  });

  test("is followed by another one when it dies, which is greeted again", async () => {
    await using kept = keepScript(pidThen(echo));
    await until(() => kept.said.length === 2);
    const first = kept.child.pid;
    assert.ok(first !== undefined);
    sendSignal(first, "SIGKILL");
    await until(() => kept.said.length === 4);
    assert.deepEqual(kept.ends, ["SIGKILL"]);
    assert.notEqual(kept.child.pid, first);
    assert.deepEqual(kept.said[3], { type: "hello" });
  });

  test("is killed and replaced after 30 s of silence", async () => {
    const clock = new ManualClock();
    await using kept = keepScript(taciturn, { clock });
    await until(() => kept.said.length === 2);
    await pass(clock, 27_000);
    await assertAlive(kept);
    await pass(clock, 33_000);
    await until(() => kept.ends.length === 1);
    assert.deepEqual(kept.ends, ["SIGKILL"]);
    await until(() => kept.said.filter(({ type }) => type === "up").length === 2);
  });

  test("is killed also when it is stopped", async () => {
    const clock = new ManualClock();
    await using kept = keepScript(pidThen(echo), { clock });
    await until(() => kept.said.length === 2);
    kept.child.send({ type: "last" });
    await until(() => kept.said.length === 3);
    sendSignal(kept.child.pid ?? 0, "SIGSTOP");
    await pass(clock, 33_000);
    await until(() => kept.said.length === 5);
    assert.deepEqual(kept.ends, ["SIGKILL"]);
  });

  test("that answers pings lives on", async () => {
    const clock = new ManualClock();
    const pings: Line[] = [];
    await using kept = keepScript(echo, {
      clock,
      onReport: (report) => {
        if (report.type === "ping") pings.push(report);
      },
    });
    for (let n = 1; n <= 25; n++) {
      await until(() => clock.sleepers > 0);
      await pass(clock, 3_000);
      await until(() => pings.length === n);
    }
    assert.deepEqual(kept.ends, []);
  });

  test("is not blamed for time that its keeper slept through", async () => {
    const clock = new ManualClock();
    await using kept = keepScript(taciturn, { clock });
    await until(() => kept.said.length === 2 && clock.sleepers > 0);
    await pass(clock, 600_000, 600_000);
    await assertAlive(kept);
  });

  test("may take its time for the first word", async () => {
    const clock = new ManualClock();
    await using kept = keepScript("read -r line; read -r line; while read -r line; do :; done", {
      clock,
      startMs: 100_000,
    });
    await until(() => clock.sleepers > 0);
    await pass(clock, 90_000);
    assert.deepEqual(kept.ends, []);
    await pass(clock, 15_000);
    await until(() => kept.ends.length === 1);
  });

  test("is given up after three lives without a word", async () => {
    await using kept = keepScript("exit 7");
    await until(() => kept.givenUp.length > 0);
    const [error] = kept.givenUp;
    assert.ok(error instanceof ChildLostError && error instanceof EnvironmentError);
    assert.equal(
      error.message,
      "Cannot keep the test child running: it ended 3 times in a row, at last by exit code 7",
    );
    assert.deepEqual(kept.ends, ["exit code 7", "exit code 7", "exit code 7"]);
  });

  test("is given up after eight short lives, and not when one of them was longer", async () => {
    const clock = new ManualClock();
    await using kept = keepScript('echo \'{"type":"up"}\'; read -r a; read -r b; exit 1', {
      clock: { ...withoutWaiting(clock), monotonic: () => clock.monotonic() },
    });
    for (let life = 1; life <= 7; life++) {
      await until(() => kept.said.length === life);
      kept.child.send({ type: "die" });
      await until(() => kept.ends.length === life);
    }
    await until(() => kept.said.length === 8);
    clock.advance(10_000);
    kept.child.send({ type: "die" });
    for (let life = 9; life <= 16; life++) {
      await until(() => kept.said.length === life);
      assert.deepEqual(kept.givenUp, []);
      kept.child.send({ type: "die" });
    }
    await until(() => kept.givenUp.length === 1);
    assert.match(
      kept.givenUp[0]?.message ?? "",
      /it ended 8 times in a row, at last by exit code 1/,
    );
  });

  test("that can't be started is given up at once, with the reason", async () => {
    await using kept = keepScript("", { file: "/no/such/program" });
    await until(() => kept.givenUp.length > 0);
    assert.ok(kept.givenUp[0] instanceof EnvironmentError);
    assert.match(kept.givenUp[0].message, /Cannot start "\/no\/such\/program": .*ENOENT/);
  });

  test("takes all that it has started with it, in whatever session and group", async () => {
    const away = `setsid --fork bash --norc -c 'echo "{\\"type\\":\\"away\\",\\"text\\":\\"$$\\"}"; exec sleep 1000'`;
    await using kept = keepScript(`${away}; ${echo}`);
    await until(() => kept.said.length === 2);
    const away1 = Number(kept.said.find(({ type }) => type === "away")?.text);
    assert.equal(await isGone(away1), false);
    kept.child.replace();
    await until(() => kept.ends.length === 1);
    assert.equal(await isGone(away1), true);
  });

  test("is heard to its last word", async () => {
    const heardAtEnd: number[] = [];
    await using kept = keepScript(
      'for i in {1..2000}; do echo \'{"type":"line"}\'; done; kill -9 $$',
      { onEnd: () => heardAtEnd.push(kept.said.length) },
    );
    await until(() => heardAtEnd.length > 0);
    assert.equal(heardAtEnd[0], 2000);
  });

  test("that says what nobody understands goes on", async () => {
    await using kept = keepScript(`echo nonsense; echo '{"cut":'; ${echo}`);
    await until(() => kept.said.length === 1);
    assert.deepEqual(kept.ends, []);
  });

  test("whose report can't be taken is given up with the error", async () => {
    await using kept = keepScript(echo, {
      onReport: () => {
        throw new TypeError("a bug of ours");
      },
    });
    await until(() => kept.givenUp.length > 0);
    assert.deepEqual(kept.givenUp[0]?.message, "a bug of ours");
  });
});

describe("the end of a child", () => {
  test("is the end of its stdin, and it may finish what it has to", async () => {
    await using directory = await temporaryDirectory();
    const file = join(directory.path, "finished");
    {
      await using kept = keepScript(`${echo}; echo done > "${file}"`);
      await until(() => kept.said.length === 1);
    }
    assert.equal(await readFile(file, "utf8"), "done\n");
  });

  test("is a TERM when it does not heed the end of its stdin, then a KILL", async () => {
    for (const { heeds, how } of [
      { heeds: true, how: "exit code 3" },
      { heeds: false, how: "SIGKILL" },
    ]) {
      const trap = heeds ? "trap 'exit 3' TERM" : "trap '' TERM";
      const kept = keepScript(
        `${trap}; echo '{"type":"up"}'; while :; do read -r -t 0.05 line; done`,
        { closeGraceMs: 50 },
      );
      await until(() => kept.said.length > 0);
      const { pid } = kept.child;
      await kept[Symbol.asyncDispose]();
      assert.deepEqual(kept.ends, [how]);
      assert.equal(await isGone(pid ?? 0), true);
    }
  });

  test("comes also while it is only being started, and no other one follows", async () => {
    const kept = keepScript(echo);
    await kept[Symbol.asyncDispose]();
    assert.ok(kept.ends.length <= 1);
    assert.equal(kept.child.pid, undefined);
  });
});

/** A clock on which nobody has to wait, except for pings. */
function withoutWaiting(clock: ManualClock): Clock {
  return {
    ...systemClock,
    sleep: async (ms, signal) => {
      if (ms === 3_000) await clock.sleep(ms, signal);
    },
  };
}
