import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { sendSignal } from "../../src/base/proc.ts";
import type { RunMessage } from "../../src/lmeval/harness.ts";
import { ofType, startTestHarness } from "../support/evaluations.ts";
import { describeOnBench, endsOf, openStation } from "../support/harness-bench.ts";
import { root } from "../support/require.ts";
import { until } from "../support/until.ts";

describeOnBench("a child that does not get on", {}, (bench) => {
  // More than looking at four documents takes on a machine that is busy.
  const phase_timeout_s = 6;
  const hangs = {
    "in its own loop": {
      leaf: "ev_wait",
      class: "load",
      message: /^Loading took longer than 0\.1 minutes; .*eval\.phase_timeout_minutes/,
      where: /File ".*stations\.py", line \d+ in _wait_for/,
    },
    "in a library, with Python's lock in its hands": {
      leaf: "ev_hold_out",
      class: "load",
      message: /^Loading took longer/,
      where: /File ".*stations\.py", line \d+ in hold_out/,
    },
    "in a metric": {
      leaf: "ev_meet",
      class: "metric",
      message: /^Scoring took longer than 0\.1 minutes/,
      where: /File ".*stations\.py", line \d+ in __str__/,
    },
  };
  test("in loading or scoring for longer than it may: its leaf has failed, and the log says where it stood", async () => {
    const check = async (title: string, hang: (typeof hangs)[keyof typeof hangs]) => {
      const station = openStation(await bench.directory());
      const { messages, ended, log } = await bench.run(["ev_mc", hang.leaf, "ev_generate"], {
        env: { ...station.env, EV_MEETING: "2" },
        phase_timeout_s,
      });
      assert.deepEqual(
        endsOf({ messages }),
        [
          ["ev_mc", "leaf_done"],
          [hang.leaf, "leaf_failed"],
        ],
        title,
      );
      const [failed] = ofType(messages, "leaf_failed");
      assert.deepEqual([failed?.class, failed?.permanent], [hang.class, false], title);
      assert.match(failed?.message ?? "", hang.message, title);
      assert.deepEqual([ended.leaf, ended.signal, ended.cancelled], [null, "SIGKILL", false]);
      assert.match(await log(), hang.where, title);
    };
    await Promise.all(Object.entries(hangs).map(([title, hang]) => check(title, hang)));
  });

  test("stopped and continued: nothing happens", async () => {
    const station = openStation(await bench.directory());
    const messages: RunMessage[] = [];
    const settings = await bench.settings(["ev_wait"], { env: station.env });
    const run = bench.harness.run(settings, (message) => messages.push(message));
    await station.said("waiting");
    const [started] = ofType(messages, "started");
    assert(started !== undefined);
    sendSignal(started.pid, "SIGSTOP");
    await bench.harness.ping();
    sendSignal(started.pid, "SIGCONT");
    await station.letGo();
    assert.deepEqual(
      [(await run.ended).exit_code, endsOf({ messages })],
      [0, [["ev_wait", "leaf_done"]]],
    );
  });

  test("stopped and never continued: it ends by SIGSTOP, and no leaf has failed", async () => {
    const place = await bench.directory();
    const station = openStation(place);
    const impatient = join(root, "test/support/impatient-harness.py");
    await using harness = await startTestHarness(bench.python, join(place, "home"), {}, [
      impatient,
    ]);
    const messages: RunMessage[] = [];
    const settings = await bench.settings(["ev_wait"], { env: station.env });
    const run = harness.run(settings, (message) => messages.push(message));
    await station.said("waiting");
    const [started] = ofType(messages, "started");
    assert(started !== undefined);
    sendSignal(started.pid, "SIGSTOP");
    const ended = await run.ended;
    assert.deepEqual(
      [ended.signal, ended.exit_code, ended.leaf, ended.cancelled],
      ["SIGSTOP", null, "ev_wait", false],
    );
    assert.deepEqual(endsOf({ messages }), []);
    await until(() => !sendSignal(started.pid, 0));
  });
});
