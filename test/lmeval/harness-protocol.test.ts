import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { describe, test } from "node:test";
import { processStartTime } from "../../src/base/proc.ts";
import { startGroup } from "../../src/base/spawn.ts";
import { type Harness, HarnessLostError, type RunMessage } from "../../src/lmeval/harness.ts";
import { HarnessMessage, type HarnessRequest } from "../../src/lmeval/protocol.ts";
import {
  evalTasks,
  offlineEnvironment,
  ofType,
  planLeaves,
  plugins,
  runSettings,
  startTestHarness,
} from "../support/evaluations.ts";
import { describeOnBench, endsOf, openStation } from "../support/harness-bench.ts";
import { requirePython, root } from "../support/require.ts";
import { temporaryDirectory } from "../support/temporary.ts";
import { until } from "../support/until.ts";

const isGone = async (pid: number) => (await processStartTime(pid)) === undefined;

describeOnBench("the harness, its children and what they say", {}, (bench, version) => {
  /** Starts a batch and waits until its first leaf says `name`. */
  async function startAndWait<T>(leaf: string, name: string) {
    const station = openStation(await bench.directory());
    const messages: RunMessage[] = [];
    const settings = await bench.settings([leaf], { env: station.env });
    const run = bench.harness.run(settings, (message) => messages.push(message));
    return { run, messages, said: await station.said<T>(name) };
  }

  test("hello says which lm_eval, Python and libraries these are", () => {
    const { pid, versions } = bench.harness.hello;
    assert.ok(pid > 0);
    assert.equal(versions.lm_eval, version);
    assert.match(versions.lm_eval_sha256, /^[0-9a-f]{64}$/);
    assert.match(versions.python, /^3\.\d+\.\d+$/);
    assert.match(`${versions.datasets} ${versions.transformers}`, /^\d+\.\d+\.\d+ \d+\.\d+\.\d+$/);
    assert.equal(versions.torch, null);
  });

  test("planning loads no data: datasets would keep for good what a task draws meanwhile", async () => {
    // Nothing has been evaluated here so far.
    await bench.plan(["ev_mc", "ev_random_map", "ev_python"]);
    assert.ok(!existsSync(join(bench.home, "huggingface/datasets")));
    await bench.run(["ev_mc"]);
    assert.ok(existsSync(join(bench.home, "huggingface/datasets")));
  });

  test("a silent child that holds out is killed with what it started, and pings are answered meanwhile", async () => {
    const { run, messages, said } = await startAndWait<{ pids: number[] }>(
      "ev_hold_out",
      "holding-out",
    );
    await bench.harness.ping();
    assert.deepEqual(ofType(messages, "started").length, 1);
    run.cancel();
    await bench.harness.ping();
    const { leaf, exit_code, signal, cancelled } = await run.ended;
    assert.deepEqual(
      { leaf, exit_code, signal, cancelled },
      { leaf: "ev_hold_out", exit_code: null, signal: "SIGKILL", cancelled: true },
    );
    for (const pid of said.pids) await until(() => isGone(pid));
  });

  test("a child that obeys ends by SIGTERM when it is cancelled", async () => {
    const { run, messages } = await startAndWait("ev_wait", "waiting");
    run.cancel();
    run.cancel();
    const ended = await run.ended;
    assert.deepEqual([ended.signal, ended.cancelled, ended.leaf], ["SIGTERM", true, "ev_wait"]);
    assert.deepEqual(endsOf({ messages }), []);
  });

  test("a child that dies is named with the leaf that it was at; what it had finished stays", async () => {
    const { messages, ended } = await bench.run(["ev_mc", "ev_suicide", "ev_generate"]);
    assert.deepEqual(
      [ended.signal, ended.exit_code, ended.cancelled, ended.leaf],
      ["SIGKILL", null, false, "ev_suicide"],
    );
    assert.ok(ended.max_rss_bytes > 1_000_000 && ended.cpu_s > 0);
    assert.deepEqual(endsOf({ messages }), [["ev_mc", "leaf_done"]]);
    assert.ok(existsSync(ofType(messages, "leaf_done")[0]?.path ?? ""));
  });

  test("what a task leaves running ends with its child", async () => {
    const station = openStation(await bench.directory());
    const { messages } = await bench.run(["ev_leftover"], { env: station.env });
    assert.deepEqual(endsOf({ messages }), [["ev_leftover", "leaf_done"]]);
    const { pid } = await station.said<{ pid: number }>("helper");
    await until(() => isGone(pid));
  });

  test("what a task prints, by whatever way, lands in the log and not among the messages", async () => {
    const { messages, log } = await bench.run(["ev_noise"]);
    assert.deepEqual(
      [...new Set(messages.map(({ type }) => type))],
      ["started", "leaf_started", "progress", "leaf_done"],
    );
    const printed = (await log()).split("\n");
    const line = '{"type": "pong", "n": 1}';
    // print, sys.__stdout__, fd 1, fd 2, another process; lm_eval asks for the documents twice.
    assert.ok(printed.filter((text) => text === line).length >= 5, printed.join("\n"));
    assert.ok(printed.includes("stdin: b''"));
    await bench.harness.ping();
  });

  test("progress names the phases in order and ends with all requests answered", async () => {
    const { messages } = await bench.run(["ev_mc"]);
    const progress = ofType(messages, "progress");
    assert.deepEqual(
      [...new Set(progress.map(({ phase }) => phase))],
      ["loading", "requests", "scoring"],
    );
    const requests = progress.filter(({ phase }) => phase === "requests");
    const [done] = ofType(messages, "leaf_done");
    assert.equal(requests.at(-1)?.done, done?.n_requests);
    assert.equal(requests.at(-1)?.total, done?.n_requests);
    assert.ok((done?.total_s ?? 0) >= (done?.load_s ?? 0) + (done?.requests_s ?? 0));
  });

  test("batches run side by side, each in a child of its own", async () => {
    const [first, second] = await Promise.all([
      startAndWait("ev_wait", "waiting"),
      startAndWait("ev_wait", "waiting"),
    ]);
    const pids = [first, second].map(({ messages }) => ofType(messages, "started")[0]?.pid);
    assert.notEqual(pids[0], pids[1]);
    for (const { run } of [first, second]) run.cancel();
    await Promise.all([first.run.ended, second.run.ended]);
  });

  test("shutdown ends the harness at once, with its children", async () => {
    const directory = await bench.directory();
    const station = openStation(directory);
    const settings = await bench.settings(["ev_wait"], { env: station.env });
    await using child = await startGroup(
      bench.python,
      ["-B", join(root, "harness/eval_hive_harness/__main__.py")],
      { env: offlineEnvironment(directory), stdin: "pipe", stdout: "pipe", cwd: evalTasks },
    );
    const say = (request: HarnessRequest) => child.stdin?.write(`${JSON.stringify(request)}\n`);
    say({ type: "run", id: "1", ...settings });
    assert(child.stdout !== undefined);
    const lines = createInterface({ input: child.stdout });
    const heard: HarnessMessage[] = [];
    lines.on("line", (line) => heard.push(HarnessMessage.parse(JSON.parse(line))));
    await station.said("waiting");
    say({ type: "shutdown" });
    assert.deepEqual(await child.exited, { code: 0, signal: undefined });
    const started = heard.find((message) => message.type === "started");
    await until(() => isGone(started?.pid as number));
  });
});

describe("a harness that ends takes its children with it", () => {
  /** A batch that waits in the middle of its leaf, with lm_eval's model that needs no server. */
  async function waitingBatch(harness: Harness, home: string) {
    const evaluation = { model_args: {}, lm_eval_args: { model: "dummy" } };
    const leaves = await planLeaves(harness, ["ev_wait"], evaluation, join(home, "cache"));
    const station = openStation(home);
    return {
      settings: runSettings(home, Object.values(leaves), { evaluation, env: station.env }),
      isWaiting: () => station.said("waiting"),
    };
  }

  for (const [how, end] of Object.entries({
    "when it is killed": (harness: Harness) => harness.kill(),
    "when its stdin ends": (harness: Harness) => harness[Symbol.asyncDispose](),
  })) {
    test(`${how}, and whoever waits for an answer hears of it`, async (t) => {
      const python = requirePython(t);
      if (python === undefined) return;
      await using home = await temporaryDirectory();
      // Whatever is printed on the way to hello does no harm.
      const env = { PYTHONPATH: join(plugins, "noisy") };
      await using harness = await startTestHarness(python, home.path, env);
      assert.match(harness.stderrTail(), /noise before the start\n.*noise while lm_eval/s);
      const { settings, isWaiting } = await waitingBatch(harness, home.path);
      const messages: RunMessage[] = [];
      const run = harness.run(settings, (message) => messages.push(message));
      await isWaiting();
      await end(harness);
      await assert.rejects(run.ended, HarnessLostError);
      await assert.rejects(harness.ping(), HarnessLostError);
      const [started] = ofType(messages, "started");
      await until(() => isGone(started?.pid as number));
    });
  }
});
