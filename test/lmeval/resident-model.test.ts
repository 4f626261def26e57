import assert from "node:assert/strict";
import { readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { processStartTime } from "../../src/base/proc.ts";
import type { RunMessage } from "../../src/lmeval/harness.ts";
import { assertEqualScores, plainArguments } from "../support/equal-scores.ts";
import {
  evalTasks,
  offlineEnvironment,
  ofType,
  plugins,
  type RunSettings,
  runPlainLmEval,
} from "../support/evaluations.ts";
import { describeOnBench, endsOf, openStation } from "../support/harness-bench.ts";
import { isLong } from "../support/require.ts";

const plugin = { EVAL_HIVE_PLUGINS: "counting_lm", PYTHONPATH: plugins };

/** Every kind of leaf, and those that would notice what another one has left behind. */

const leafNames = [
  "ev_mc",
  "ev_mc_fewshot",
  "ev_loglikelihood",
  "ev_rolling",
  "ev_generate",
  "ev_repeats",
  "ev_random",
  "ev_random_again",
  "ev_module_rng",
  "ev_module_rng_again",
  "ev_settings",
  "ev_settings_again",
  "ev_python",
  "ev_python_twin",
  "ev_installed",
  "ev_installed_twin",
];

describeOnBench("a model without a server", {}, (bench) => {
  /** A checkpoint of counting_lm.py, and the station of those tasks that have one. */
  async function makeUnit(name = "unit", lm_eval_args: Record<string, unknown> = {}) {
    const place = await bench.directory();
    const evaluation = {
      model_args: { pretrained: "${EH_MODEL_PATH}" },
      lm_eval_args: { model: "counting", log_samples: true, ...lm_eval_args },
    };
    const station = openStation(place);
    const given: Partial<RunSettings> = {
      evaluation,
      resident: name,
      base_url_prefix: null,
      env: { ...plugin, ...station.env, EH_MODEL_PATH: place },
    };
    return {
      place,
      station,
      given,
      /** Processes that have made the model, in order. */
      constructions: async () =>
        (await readFile(join(place, "constructions"), "utf8"))
          .trimEnd()
          .split("\n")
          .map((line) => (JSON.parse(line) as { pid: number }).pid),
      /** Starts a batch. */
      start: async (leaves: readonly string[]) => {
        const messages: RunMessage[] = [];
        const settings = await bench.settings(leaves, given);
        const run = bench.harness.run(settings, (message) => messages.push(message));
        return { run, messages, pid: () => ofType(messages, "started")[0]?.pid };
      },
    };
  }

  test("is loaded once per unit, and every batch scores as plain lm_eval does alone", async () => {
    const unit = await makeUnit();
    const directory = await bench.directory();
    const args = plainArguments("counting", { pretrained: unit.place });
    const plain = await runPlainLmEval({
      python: bench.python,
      jobs: Object.fromEntries(
        leafNames.map((task) => [task, { task, include_path: evalTasks, arguments: args }]),
      ),
      output: join(directory, "results"),
      env: { ...offlineEnvironment(directory), ...plugin },
    });
    await rm(join(unit.place, "constructions"));
    await assertEqualScores({
      harness: bench.harness,
      leaves: Object.values(await bench.plan(leafNames, unit.given.evaluation)),
      plain,
      rounds: isLong ? 2 : 1,
      settings: async (leaves) => ({ ...(await bench.settings([], unit.given)), leaves }),
    });
    assert.equal((await unit.constructions()).length, 1);
  });

  test("requests of one unit wait for one another; another unit's gets its process when they are done", async () => {
    const [first, second] = [await makeUnit("first"), await makeUnit("second")];
    const batches = [
      await first.start(["ev_wait"]),
      await first.start(["ev_mc"]),
      await second.start(["ev_mc"]),
    ];
    await first.station.said("waiting");
    assert.deepEqual(
      batches.map(({ messages }) => ofType(messages, "started").length),
      [1, 0, 0],
    );
    await first.station.letGo();
    const ends = await Promise.all(batches.map(({ run }) => run.ended));
    assert.deepEqual(
      ends.map(({ exit_code }) => exit_code),
      [0, 0, 0],
    );
    const [waited, followed, other] = batches.map(({ pid }) => pid());
    assert.equal(followed, waited);
    assert.notEqual(other, waited);
    assert.deepEqual(await first.constructions(), [waited]);
    assert.deepEqual(await second.constructions(), [other]);
    assert.equal(await processStartTime(waited as number), undefined);
  });

  test("one that can't be loaded is said so: class model; the next request tries again, in another process", async () => {
    const unit = await makeUnit();
    await writeFile(join(unit.place, "broken"), "");
    const batch = await unit.start(["ev_mc", "ev_generate"]);
    assert.equal((await batch.run.ended).leaf, null);
    const [error] = ofType(batch.messages, "error");
    assert.deepEqual([error?.class, error?.permanent], ["model", false]);
    assert.equal(error?.message, "RuntimeError: this checkpoint is broken");
    assert.deepEqual(endsOf(batch), []);

    await rm(join(unit.place, "broken"));
    const again = await unit.start(["ev_mc", "ev_generate"]);
    await again.run.ended;
    assert.equal(endsOf(again).length, 2);
    assert.deepEqual(await unit.constructions(), [batch.pid(), again.pid()]);
    assert.notEqual(batch.pid(), again.pid());
  });

  test("when its process dies in mid-batch, who waited is served by another that loads it again", async () => {
    const unit = await makeUnit();
    const dying = await unit.start(["ev_wait", "ev_generate"]);
    const waiting = await unit.start(["ev_mc"]);
    await unit.station.said("waiting");
    await writeFile(join(unit.place, "deadly"), "");
    await unit.station.letGo();
    const ended = await dying.run.ended;
    assert.deepEqual([ended.signal, ended.leaf, ended.cancelled], ["SIGKILL", "ev_wait", false]);
    assert.equal((await waiting.run.ended).exit_code, 0);
    assert.deepEqual(endsOf(waiting), [["ev_mc", "leaf_done"]]);
    assert.deepEqual(await unit.constructions(), [dying.pid(), waiting.pid()]);
  });

  test("when its process dies between two requests, the next one does not notice", async () => {
    const unit = await makeUnit();
    const first = await unit.start(["ev_mc"]);
    await first.run.ended;
    process.kill(first.pid() as number, "SIGKILL");
    const second = await unit.start(["ev_generate"]);
    assert.equal((await second.run.ended).exit_code, 0);
    assert.deepEqual(endsOf(second), [["ev_generate", "leaf_done"]]);
    assert.equal((await unit.constructions()).length, 2);
  });

  test("cancelling a request that waits leaves the model and the others alone", async () => {
    const unit = await makeUnit();
    const [first, second, third] = [
      await unit.start(["ev_wait"]),
      await unit.start(["ev_mc"]),
      await unit.start(["ev_generate"]),
    ];
    await unit.station.said("waiting");
    second.run.cancel();
    const { cancelled, leaf, exit_code, signal } = await second.run.ended;
    assert.deepEqual([cancelled, leaf, exit_code, signal], [true, null, null, null]);
    await unit.station.letGo();
    await Promise.all([first.run.ended, third.run.ended]);
    assert.deepEqual(
      [...endsOf(first), ...endsOf(third)],
      [
        ["ev_wait", "leaf_done"],
        ["ev_generate", "leaf_done"],
      ],
    );
    assert.deepEqual(await unit.constructions(), [first.pid()]);
  });

  test("cancelling the one in progress ends the process, and the next request loads the model again", async () => {
    const unit = await makeUnit();
    const first = await unit.start(["ev_wait"]);
    const second = await unit.start(["ev_mc"]);
    await unit.station.said("waiting");
    first.run.cancel();
    const ended = await first.run.ended;
    assert.deepEqual([ended.cancelled, ended.signal], [true, "SIGTERM"]);
    assert.equal((await second.run.ended).exit_code, 0);
    assert.equal((await unit.constructions()).length, 2);
  });

  test("a request that can't be carried out, or a leaf that fails, costs no model", async () => {
    const unit = await makeUnit();
    const twins = await bench.plan(["ev_mc", "ev_described"], unit.given.evaluation);
    const settings = { ...(await bench.settings([], unit.given)), leaves: Object.values(twins) };
    const messages: RunMessage[] = [];
    await (await unit.start(["ev_crash"])).run.ended;
    await bench.harness.run(settings, (message) => messages.push(message)).ended;
    assert.match(ofType(messages, "error")[0]?.message ?? "", /never share a child/);
    const last = await unit.start(["ev_mc"]);
    await last.run.ended;
    assert.deepEqual(endsOf(last), [["ev_mc", "leaf_done"]]);
    assert.deepEqual(await unit.constructions(), [last.pid()]);
  });

  test("a unit whose arguments have changed gets its model anew", async () => {
    const unit = await makeUnit();
    const before = await unit.start(["ev_mc"]);
    await before.run.ended;
    const changed = await makeUnit("unit", { limit: 3 });
    const after = await changed.start(["ev_mc"]);
    await after.run.ended;
    assert.equal(ofType(after.messages, "leaf_done")[0]?.n_samples, 3);
    assert.deepEqual(await changed.constructions(), [after.pid()]);
    assert.notEqual(after.pid(), before.pid());
  });
});
