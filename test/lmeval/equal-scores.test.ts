import assert from "node:assert/strict";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { runToEnd } from "../../src/base/spawn.ts";
import type { RunLeaf } from "../../src/lmeval/protocol.ts";
import { assertEqualScores, plainArguments, writeLeafAlone } from "../support/equal-scores.ts";
import {
  comparable,
  completionsEvaluation,
  evalTasks,
  type LeafResult,
  offlineEnvironment,
  ofType,
  type PlainJob,
  planLeaves,
  plugins,
  readPlainResult,
  readResult,
  runBatch,
  runPlainLmEval,
  runSettings,
  startCompletionsServer,
  startTestHarness,
} from "../support/evaluations.ts";
import { describeOnBench, type HarnessBench } from "../support/harness-bench.ts";
import { isLong, requirePython } from "../support/require.ts";
import { temporaryDirectory } from "../support/temporary.ts";
import { writeByteTokenizer } from "../support/tokenizer.ts";

/** `ev_suite` and `ev_described` are groups with overrides. */
const suites = [
  "ev_mc",
  "ev_mc_fewshot",
  "ev_mc_first_n",
  "ev_unicode",
  "ev_loglikelihood",
  "ev_rolling",
  "ev_generate",
  "ev_filters",
  "ev_stops",
  "ev_repeats",
  "ev_nan",
  "ev_numpy",
  "ev_median",
  "ev_random",
  "ev_random_again",
  "ev_random_map",
  "ev_module_rng",
  "ev_module_rng_again",
  "ev_settings",
  "ev_settings_again",
  "ev_left",
  "ev_right",
  "ev_python",
  "ev_python_twin",
  "ev_installed",
  "ev_installed_twin",
  "ev_mixed",
  "ev_suite",
  "ev_described",
];
/** One of each kind, for where all would take too long. */
const few = [
  "ev_mc_fewshot",
  "ev_rolling",
  "ev_stops",
  "ev_filters",
  "ev_repeats",
  "ev_nan",
  "ev_numpy",
  "ev_random",
  "ev_random_again",
  "ev_suite",
];

interface Variant {
  readonly name: string;
  readonly model_args: Record<string, unknown>;
  readonly lm_eval_args: Record<string, unknown>;
  readonly flags: string[];
}

const asTheyAre: Variant = { name: "as they are", model_args: {}, lm_eval_args: {}, flags: [] };
const changed: Variant = {
  name: "with few-shot, limit, batches and seeds from the command line",
  model_args: { num_concurrent: 1, max_length: "512", seed: 7 },
  lm_eval_args: {
    num_fewshot: 2,
    limit: 5,
    batch_size: 4,
    seed: "3,4,5,6",
    gen_kwargs: "temperature=0.25",
  },
  flags:
    "--num_fewshot 2 --limit 5 --batch_size 4 --seed 3,4,5,6 --gen_kwargs temperature=0.25".split(
      " ",
    ),
};

describeOnBench(
  "batches give the scores of plain lm_eval run of each leaf alone",
  { older: "always" },
  (bench, version) => {
    for (const variant of isLong ? [asTheyAre, changed] : [asTheyAre]) {
      test(variant.name, { timeout: 900_000 }, async () => {
        const all = isLong || version === "0.4.13";
        const evaluation = completionsEvaluation(variant);
        const leaves = Object.values(await bench.plan(all ? suites : few, evaluation)).filter(
          // What datasets keeps of it was drawn with the other seed, as in plain lm_eval with one HF_HOME.
          ({ id }) => variant !== changed || id !== "ev_random_map",
        );
        const directory = await bench.directory();
        const plain = await runPlainLmEval({
          python: bench.python,
          jobs: await plainJobs(bench, leaves, variant, directory),
          output: join(directory, "plain"),
          env: { ...offlineEnvironment(join(directory, "home")), PYTHONPATH: plugins },
        });
        await assertEqualScores({
          harness: bench.harness,
          leaves,
          plain,
          rounds: isLong ? 12 : 1,
          settings: (batch) =>
            bench.settings([], { evaluation, leaves: batch, env: { PYTHONPATH: plugins } }),
        });
      });
    }
  },
);

/** Each leaf alone, by what one would type. */
async function plainJobs(
  { tokenizer, port }: HarnessBench,
  leaves: readonly RunLeaf[],
  variant: Variant,
  directory: string,
): Promise<Record<string, PlainJob>> {
  const base_url = `http://127.0.0.1:${port}/v1/completions`;
  const modelArgs = { model: tokenizer, base_url, num_concurrent: 4, ...variant.model_args };
  const args = plainArguments("local-completions", modelArgs, ...variant.flags);
  const jobs: Record<string, PlainJob> = {};
  for (const leaf of leaves) {
    const include_path =
      leaf.id === leaf.name ? evalTasks : await alone(leaf, join(directory, leaf.id));
    jobs[leaf.id] = { task: leaf.name, include_path, arguments: args };
  }
  return jobs;
}

// lm_eval reads 13,000 task files first.
if (isLong) {
  test("a command line typed by hand gives the same file", {
    timeout: 300_000,
  }, async (t) => {
    const python = requirePython(t);
    if (python === undefined) return;
    await using home = await temporaryDirectory();
    await using server = await startCompletionsServer();
    const tokenizer = join(home.path, "tokenizer");
    await writeByteTokenizer(tokenizer);
    const baseUrl = `http://127.0.0.1:${server.port}/v1/completions`;
    const modelArgs = { model: tokenizer, base_url: baseUrl, num_concurrent: 4 };
    await using harness = await startTestHarness(python, join(home.path, "home"));
    const evaluation = completionsEvaluation();
    const names = ["ev_random_again", "ev_filters"];
    const leaves = await planLeaves(harness, names, evaluation, join(home.path, "cache"));
    const { messages } = await runBatch(
      harness,
      runSettings(
        home.path,
        names.map((name) => leaves[name] as RunLeaf),
        { evaluation, env: { EH_PORT: String(server.port), EH_MODEL_PATH: tokenizer } },
      ),
    );
    const done = ofType(messages, "leaf_done");
    assert.equal(done.length, names.length);
    for (const { leaf, path, samples_path } of done) {
      const output = join(home.path, `typed-${leaf}`);
      const args = ["-B", "-m", "lm_eval", "run", "--tasks", leaf, "--include_path", evalTasks];
      const typed = await runToEnd(
        python,
        [...args, "--output_path", output, ...plainArguments("local-completions", modelArgs)],
        { cwd: evalTasks, env: offlineEnvironment(join(home.path, "typed-home")) },
      );
      assert.equal(typed.code, 0, typed.stderr.slice(-2_000));
      const ours: LeafResult = await readResult(path, samples_path ?? undefined);
      assert.deepEqual(comparable(ours), comparable(await readPlainResult(output)), leaf);
    }
  });
}

async function alone(leaf: RunLeaf, directory: string): Promise<string> {
  await mkdir(directory);
  return await writeLeafAlone(leaf, directory);
}
