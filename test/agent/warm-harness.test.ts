import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import {
  openWarmHarness,
  type RunEnd,
  type WarmHarness,
  type WarmHarnessOptions,
} from "../../src/agent/warm-harness.ts";
import { EnvironmentError } from "../../src/base/errors.ts";
import { silentLog } from "../support/logs.ts";
import { ManualClock } from "../support/manual-clock.ts";
import { root } from "../support/require.ts";
import { scriptedVersions } from "../support/scripted-harness.ts";
import { temporaryDirectory } from "../support/temporary.ts";
import { until } from "../support/until.ts";

const never = new AbortController().signal;

interface Opened extends AsyncDisposable {
  readonly harness: WarmHarness;
  readonly hellos: number[];
  readonly ends: string[];
  readonly givenUp: Error[];
}

function open(
  env: Readonly<Record<string, string>> = {},
  options: Partial<WarmHarnessOptions> = {},
): Opened {
  const hellos: number[] = [];
  const ends: string[] = [];
  const givenUp: Error[] = [];
  const harness = openWarmHarness({
    file: process.execPath,
    args: [join(root, "test/support/scripted-harness.ts")],
    env: { PATH: process.env["PATH"], ...env },
    cwd: "/",
    logFd: 2,
    log: silentLog,
    versions: scriptedVersions,
    onHello: ({ pid }) => hellos.push(pid),
    onEnd: (_pid, how) => ends.push(how),
    onGivenUp: (error) => givenUp.push(error),
    ...options,
  });
  return {
    harness,
    hellos,
    ends,
    givenUp,
    [Symbol.asyncDispose]: () => harness[Symbol.asyncDispose](),
  };
}

let runs = 0;

interface HeardRun {
  /** Types of the messages, `leaf_started` without. */
  readonly heard: string[];
  readonly end: Promise<RunEnd>;
}

/** Asks for leaves that do what their names say (scripted-harness.ts). */
function run({ harness }: Opened, names: readonly string[], signal = never): HeardRun {
  const heard: string[] = [];
  const source = { kind: "task", yaml_path: "/tasks/leaf.yaml" } as const;
  const end = harness.run(
    {
      id: `run-${++runs}`,
      leaves: names.map((name, n) => {
        return { id: `${n}-${name}`, name, source, overrides: {}, fingerprint: "fp1:0" };
      }),
      evaluation: { model_args: {}, lm_eval_args: {} },
      env: {},
      base_url_prefix: null,
      request_timeout_s: 1,
      request_retries: 1,
      phase_timeout_s: 7_200,
      engine: "fast",
      output_dir: "/results",
      owner: "test",
      record: {},
      log_file: "/logs/harness.log",
      cwd: "/",
      resident: null,
    },
    {
      signal,
      onMessage: ({ type, leaf }) => {
        if (type !== "leaf_started") heard.push(`${leaf} ${type}`);
      },
    },
  );
  return { heard, end };
}

test("runs that ask before the harness is up wait for it, and hear all before the end", async () => {
  await using opened = open();
  const first = run(opened, ["done", "failed", "invalid"]);
  const second = run(opened, ["done"]);
  assert.equal((await first.end).kind, "ended");
  assert.deepEqual(first.heard, [
    "0-done leaf_done",
    "1-failed leaf_failed",
    "2-invalid leaf_invalid",
  ]);
  assert.equal((await second.end).kind, "ended");
  assert.equal(opened.hellos.length, 1);
});

test("a run that waits for a harness that dies on its way gets the next one", async () => {
  await using directory = await temporaryDirectory();
  await using opened = open({ FAKE_DIES_FIRST: join(directory.path, "died") });
  const { heard, end } = run(opened, ["done"]);
  assert.equal((await end).kind, "ended");
  assert.deepEqual(heard, ["0-done leaf_done"]);
  assert.deepEqual(opened.ends, ["exit code 1"]);
});

test("runs in progress are lost with their harness, and the next ones find another", async () => {
  await using opened = open();
  const other = run(opened, ["hang"]);
  const killer = run(opened, ["done", "harness-dies"]);
  assert.deepEqual(await killer.end, { kind: "lost" });
  assert.deepEqual(await other.end, { kind: "lost" });
  assert.deepEqual(killer.heard, ["0-done leaf_done"]);
  assert.equal((await run(opened, ["done"]).end).kind, "ended");
  assert.equal(opened.hellos.length, 2);
});

test("a child that dies is the end of its run alone, with its signal", async () => {
  await using opened = open();
  const end = await run(opened, ["crash"]).end;
  assert.ok(end.kind === "ended");
  assert.deepEqual([end.ended.signal, end.ended.cancelled], ["SIGSEGV", false]);
  assert.equal(opened.ends.length, 0);
});

test("aborting ends a run that waits at once, and one in progress by cancelling it", async () => {
  await using opened = open();
  const stop = new AbortController();
  const progressing = run(opened, ["done", "hang"], stop.signal);
  await until(() => progressing.heard.length === 1);
  stop.abort();
  const end = await progressing.end;
  assert.ok(end.kind === "ended");
  assert.equal(end.ended.cancelled, true);
  assert.deepEqual(await run(opened, ["done"], stop.signal).end, { kind: "lost" });

  await using hanging = open({ FAKE_HANGS: "1" });
  const late = new AbortController();
  const waiting = run(hanging, ["done"], late.signal);
  late.abort();
  assert.deepEqual(await waiting.end, { kind: "lost" });
});

test("a harness that does not manage to cancel is replaced", async () => {
  const clock = new ManualClock();
  await using opened = open({}, { clock });
  const stop = new AbortController();
  const deaf = run(opened, ["done", "deaf"], stop.signal);
  await until(() => deaf.heard.length === 1);
  const before = clock.sleepers;
  stop.abort();
  await until(() => clock.sleepers > before);
  clock.advance(8_000);
  assert.deepEqual(await deaf.end, { kind: "lost" });
  assert.deepEqual(opened.ends, ["SIGKILL"]);
});

test("a harness with another lm_eval than the plan's is refused", async () => {
  await using opened = open({ FAKE_LM_EVAL: "0.4.12" });
  await until(() => opened.givenUp.length > 0);
  const [error] = opened.givenUp;
  assert.ok(error instanceof EnvironmentError);
  assert.deepEqual(
    [error.code, error.message],
    ["harness.version", "Cannot evaluate: lm_eval 0.4.12 here, the run was planned with 0.4.13"],
  );
  assert.deepEqual(opened.hellos, []);
});

test("a harness that can't be imported tells why", async () => {
  await using opened = open({ FAKE_START_FAILS: "1" });
  await until(() => opened.givenUp.length > 0);
  const [error] = opened.givenUp;
  assert.ok(error instanceof EnvironmentError);
  assert.equal(error.message, "Cannot start the harness: No module named 'lm_eval'");
});

test("a harness that is closed says what it has cost, one that is killed doesn't", async () => {
  const costs: (number | undefined)[] = [];
  {
    await using opened = open({}, { onEnd: (_pid, _how, cpuS) => costs.push(cpuS) });
    assert.equal((await run(opened, ["harness-dies"]).end).kind, "lost");
    assert.equal((await run(opened, ["done"]).end).kind, "ended");
  }
  assert.deepEqual(costs, [undefined, 2.5]);
});

test("closing ends a harness that still imports, whatever it heeds", async () => {
  const opened = open({ FAKE_HANGS: "1" });
  await opened[Symbol.asyncDispose]();
  assert.equal(opened.ends.length, 1);
});
