import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { processStartTime } from "../../src/base/proc.ts";
import type { RunMessage } from "../../src/lmeval/harness.ts";
import { ofType, type RunSettings } from "../support/evaluations.ts";
import {
  type BatchAnswer,
  describeOnBench,
  endsOf,
  openStation,
} from "../support/harness-bench.ts";
import { until } from "../support/until.ts";

const pidOf = ({ messages }: Pick<BatchAnswer, "messages">) => ofType(messages, "started")[0]?.pid;
const isGone = async (pid = 0) => (await processStartTime(pid)) === undefined;

async function stateOf(pid: number): Promise<string | undefined> {
  return /\) (\w)/.exec(await readFile(`/proc/${pid}/stat`, "utf8"))?.[1];
}

describeOnBench("a child that was quick with its batch", {}, (bench) => {
  /** Pids of the children that have evaluated these batches, one after the other. */
  async function pids(
    ...batches: readonly (readonly [leaves: readonly string[], given?: Partial<RunSettings>])[]
  ): Promise<(number | undefined)[]> {
    const found = [];
    for (const [leaves, given] of batches) found.push(pidOf(await bench.run(leaves, given)));
    return found;
  }

  test("takes the next one, and what it takes is told of each", async () => {
    const first = await bench.run(["ev_mc"]);
    const second = await bench.run(["ev_generate", "ev_loglikelihood"]);
    assert.equal(pidOf(second), pidOf(first));
    assert.deepEqual(endsOf(second), [
      ["ev_generate", "leaf_done"],
      ["ev_loglikelihood", "leaf_done"],
    ]);
    const { exit_code, signal, leaf, cpu_s } = second.ended;
    assert.deepEqual({ exit_code, signal, leaf }, { exit_code: 0, signal: null, leaf: null });
    assert(cpu_s > 0 && cpu_s < 2 * first.ended.cpu_s, `${cpu_s} s, ${first.ended.cpu_s} s`);
    await until(() => isGone(pidOf(second)), { what: "without another batch it ends" });
  });

  for (const [what, leaves, given] of [
    ["of another evaluation", ["ev_rolling"], { engine: "plain" }],
    ["with other variables", ["ev_rolling"], { env: { ANOTHER: "1" } }],
    ["with a leaf of a name that it has had", ["ev_rolling", "ev_mc"], {}],
    ["with a leaf of a Python class", ["ev_python"], {}],
  ] as const) {
    test(`takes none ${what}`, async () => {
      const [first, second] = await pids([["ev_mc"]], [leaves, given]);
      assert.notEqual(second, first);
    });
  }

  for (const [what, leaf] of [
    ["one of its leaves has failed", "ev_crash"],
    ["one of its leaves is of a Python class", "ev_python"],
    ["it has left a process running", "ev_leftover"],
    ["it has left a process running that is nobody's", "ev_orphan"],
  ] as const) {
    test(`takes none when ${what}`, async () => {
      const { env } = openStation(await bench.directory());
      const [first, second] = await pids([[leaf], { env }], [["ev_mc"], { env }]);
      assert.notEqual(second, first);
    });
  }

  test("finds no module of an earlier leaf under the name of its own, nor does the next leaf of a batch", async () => {
    const documents = ({ messages }: BatchAnswer) =>
      ofType(messages, "leaf_done").map(({ leaf, n_samples }) => [leaf, n_samples]);
    const first = await bench.run(["ev_helper", "ev_namesake"]);
    const expected = { ev_helper: 1, ev_namesake: 2 };
    assert.deepEqual(documents(first), Object.entries(expected));
    const [namesake, other] = [await bench.run(["ev_namesake"]), await bench.run(["ev_helper"])];
    assert.equal(pidOf(other), pidOf(namesake));
    assert.deepEqual([...documents(other), ...documents(namesake)], Object.entries(expected));
  });

  test("and dies before it sees the next one costs nothing: another child takes it, and its turn", async () => {
    const pid = pidOf(await bench.run(["ev_mc"])) ?? 0;
    const messages: RunMessage[] = [];
    const settings = { ...(await bench.settings(["ev_generate"])), held: true };
    // The harness gets the request before it hears of the death.
    const harness = bench.harness.hello.pid;
    process.kill(harness, "SIGSTOP");
    process.kill(pid, "SIGKILL");
    await until(async () => (await stateOf(pid)) === "Z", { what: "the child is dead" });
    const run = bench.harness.run(settings, (message) => messages.push(message));
    run.go();
    process.kill(harness, "SIGCONT");
    assert.equal((await run.ended).exit_code, 0);
    assert.deepEqual(endsOf({ messages }), [["ev_generate", "leaf_done"]]);
    assert.notEqual(pidOf({ messages }), pid);
  });

  test("and ends hears no word that comes too late for it, nor does the harness stumble over it", async () => {
    const settings = { ...(await bench.settings(["ev_load_error"])), held: true };
    const run = bench.harness.run(settings, () => run.go());
    let isOver = false;
    const ended = run.ended.then(() => {
      isOver = true;
    });
    while (!isOver) {
      run.go();
      await bench.harness.ping();
    }
    await ended;
    assert.deepEqual(endsOf(await bench.run(["ev_mc"])), [["ev_mc", "leaf_done"]]);
  });
});
