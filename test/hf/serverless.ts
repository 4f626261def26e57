import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import type { Evaluation, RunLeaf } from "../../src/lmeval/protocol.ts";
import { assertEqualScores, plainArguments } from "../support/equal-scores.ts";
import {
  comparable,
  evalTasks,
  type LeafResult,
  offlineEnvironment,
  planLeaves,
  plugins,
  readResult,
  runPlainLmEval,
  runSettings,
  startTestHarness,
} from "../support/evaluations.ts";
import { root } from "../support/require.ts";
import { temporaryDirectory } from "../support/temporary.ts";
import { writeByteTokenizer } from "../support/tokenizer.ts";

const python = process.env["EVAL_HIVE_PYTHON"] ?? join(root, ".venv-hf/bin/python");

/** Every output type; sampling, random documents, and a class with a config of its own. */
const leafNames = [
  "ev_mc",
  "ev_mc_fewshot",
  "ev_unicode",
  "ev_loglikelihood",
  "ev_rolling",
  "ev_generate",
  "ev_filters",
  "ev_repeats",
  "ev_random",
  "ev_random_again",
  "ev_python",
  "ev_python_twin",
];

const evaluation: Evaluation = {
  model_args: { pretrained: "${EH_MODEL_PATH}", dtype: "float32" },
  lm_eval_args: { model: "hf", device: "cpu", batch_size: 4, log_samples: true },
};

/** Threads that wait for one another by spinning get nowhere on a busy machine. */
const oneThread = { OMP_NUM_THREADS: "1" };

describe("a Hugging Face checkpoint without a server", () => {
  const stack = new AsyncDisposableStack();
  let home = "";
  let checkpoint = "";
  let plain: Record<string, LeafResult> = {};

  before(async () => {
    home = stack.use(await temporaryDirectory()).path;
    checkpoint = join(home, "checkpoint");
    await writeByteTokenizer(checkpoint);
    const made = spawnSync(python, [join(root, "test/hf/tiny-checkpoint.py"), checkpoint]);
    assert.equal(made.status, 0, String(made.stderr));
    const args = plainArguments(
      "hf",
      { pretrained: checkpoint, dtype: "float32" },
      ..."--device cpu --batch_size 4".split(" "),
    );
    plain = await runPlainLmEval({
      python,
      jobs: Object.fromEntries(
        leafNames.map((task) => [task, { task, include_path: evalTasks, arguments: args }]),
      ),
      output: join(home, "plain"),
      env: { ...offlineEnvironment(join(home, "plain-home")), ...oneThread },
    });
  });
  after(async () => await stack.disposeAsync());

  /** How a process notes that it loads the model, and how often that was. */
  function noteLoading(name: string) {
    const file = join(home, name);
    return {
      env: { EVAL_HIVE_PLUGINS: "note_loading", PYTHONPATH: plugins, EV_LOADED: file },
      times: async () => (await readFile(file, "utf8")).trimEnd().split("\n").length,
    };
  }

  test("is loaded once, and batches of any size and order score as plain lm_eval does leaf by leaf", async () => {
    await using harness = await startTestHarness(python, join(home, "home"), oneThread);
    const leaves = await planLeaves(harness, leafNames, evaluation, join(home, "cache"));
    const loading = noteLoading("loaded-by-the-harness");
    let batches = 0;
    await assertEqualScores({
      harness,
      leaves: leafNames.map((name) => leaves[name] as RunLeaf),
      plain,
      rounds: 4,
      settings: (batch) =>
        runSettings(join(home, `batch-${batches++}`), batch, {
          evaluation,
          resident: "tiny",
          env: { ...loading.env, EH_MODEL_PATH: checkpoint },
        }),
    });
    assert.equal(await loading.times(), 1);
  });

  test("scores the same when eval-hive runs it, and is loaded once there too", async () => {
    const loading = noteLoading("loaded-by-the-run");
    const results = join(home, "results");
    const config = {
      models: { tiny: { path: checkpoint, display_name: "Tiny" } },
      inference_server_command: null,
      eval: { eval_suite_path: evalTasks, suites_and_tasks: leafNames, ...evaluation },
      env_vars: loading.env,
      output_path: results,
      offline: "always",
    };
    const file = join(home, "tiny.yaml");
    await writeFile(file, JSON.stringify(config));
    const run = spawnSync(
      join(root, "bin/eval-hive"),
      ["run", file, "-o", join(home, "run"), "--json"],
      {
        cwd: evalTasks,
        env: {
          ...offlineEnvironment(join(home, "run-home")),
          ...oneThread,
          EVAL_HIVE_PYTHON: python,
          EVAL_HIVE_NODE: process.execPath,
        },
        encoding: "utf8",
      },
    );
    assert.equal(run.status, 0, run.stderr);
    assert.equal(await loading.times(), 1);
    const seen: string[] = [];
    for (const name of await readdir(results, { recursive: true })) {
      if (!/\/results_[^/]*\.json$/.test(name)) continue;
      const path = join(results, name);
      const { result } = await readResult(path);
      const own = result["eval_hive"] as { samples: { file: string } };
      const ours = await readResult(path, join(path, "..", own.samples.file));
      const [leaf] = Object.keys(result["configs"] as object) as [string];
      assert.deepEqual(comparable(ours), comparable(plain[leaf] as LeafResult), leaf);
      seen.push(leaf);
    }
    assert.deepEqual(seen.toSorted(), leafNames.toSorted());
  });
});
