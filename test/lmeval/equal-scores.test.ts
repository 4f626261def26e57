import assert from "node:assert/strict";
import { join } from "node:path";
import { describe, test } from "node:test";
import fc from "fast-check";
import { runToEnd } from "../../src/base/spawn.ts";
import type { Harness } from "../../src/lmeval/harness.ts";
import type { Evaluation, RunLeaf } from "../../src/lmeval/protocol.ts";
import {
  comparable,
  completionsEvaluation,
  evalTasks,
  type LeafResult,
  offlineEnvironment,
  ofType,
  planLeaves,
  readPlainResult,
  readResult,
  runBatch,
  runPlainLmEval,
  runSettings,
  startCompletionsServer,
  startTestHarness,
} from "../support/evaluations.ts";
import { requirePython } from "../support/require.ts";
import { temporaryDirectory } from "../support/temporary.ts";
import { writeByteTokenizer } from "../support/tokenizer.ts";

const long = process.env["EVAL_HIVE_LONG"] !== undefined;

const leafNames = [
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
  "ev_random",
  "ev_random_again",
  "ev_python",
];

/** How plain lm_eval is asked for the same: the values are those of completionsEvaluation. */
function plainArguments(modelArgs: Record<string, unknown>, ...more: string[]): string[] {
  const text = Object.entries(modelArgs).map(([key, value]) => `${key}=${value}`);
  return ["--model", "local-completions", "--model_args", text.join(","), "--log_samples", ...more];
}

interface Variant {
  readonly name: string;
  readonly model_args: Record<string, unknown>;
  readonly lm_eval_args: Record<string, unknown>;
  readonly flags: string[];
}

const variants: Variant[] = [
  { name: "as they are", model_args: {}, lm_eval_args: {}, flags: [] },
  {
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
  },
];

describe("harness batches give the scores of plain lm_eval run", () => {
  for (const version of ["0.4.13", "0.4.12"] as const) {
    for (const variant of long || version === "0.4.13" ? variants : variants.slice(0, 1)) {
      test(`lm_eval ${version}, ${variant.name}`, { timeout: 600_000 }, async (t) => {
        const python = requirePython(t, version);
        if (python === undefined) return;
        await using home = await temporaryDirectory();
        await using server = await startCompletionsServer();
        const tokenizer = join(home.path, "tokenizer");
        await writeByteTokenizer(tokenizer);
        const evaluation = completionsEvaluation(variant);
        const filled = {
          model: tokenizer,
          base_url: `http://127.0.0.1:${server.port}/v1/completions`,
          num_concurrent: 4,
          ...variant.model_args,
        };
        const plain = await runPlainLmEval({
          python,
          leaves: leafNames,
          arguments: plainArguments(filled, ...variant.flags),
          output: join(home.path, "plain"),
          env: offlineEnvironment(join(home.path, "plain-home")),
        });
        await using harness = await startTestHarness(python, join(home.path, "home"));
        const leaves = await planLeaves(harness, leafNames, evaluation, join(home.path, "cache"));
        const env = { EH_PORT: String(server.port), EH_MODEL_PATH: tokenizer };
        let round = 0;
        await fc.assert(
          fc.asyncProperty(
            fc.shuffledSubarray(leafNames, { minLength: leafNames.length }),
            fc.integer({ min: 1, max: leafNames.length }),
            async (order, size) => {
              const directory = join(home.path, `round-${round++}`);
              for (let at = 0; at < order.length; at += size) {
                const batch = order.slice(at, at + size).map((name) => leaves[name] as RunLeaf);
                const got = await evaluate(harness, directory, batch, evaluation, env);
                for (const [name, result] of Object.entries(got)) {
                  assert.deepEqual(comparable(result), comparable(plain[name] as LeafResult), name);
                }
              }
            },
          ),
          { seed: 20261124, numRuns: long ? 12 : 1, endOnFailure: true },
        );
      });
    }
  }
});

test("a command line typed by hand gives the same file", {
  timeout: 300_000,
  skip: !long && "lm_eval reads 13,000 task files first: npm run test:long",
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
  const env = { EH_PORT: String(server.port), EH_MODEL_PATH: tokenizer };
  const batch = names.map((name) => leaves[name] as RunLeaf);
  const got = await evaluate(harness, home.path, batch, evaluation, env);
  for (const name of names) {
    const output = join(home.path, `typed-${name}`);
    const args = ["-m", "lm_eval", "run", "--tasks", name, "--include_path", evalTasks];
    const done = await runToEnd(
      python,
      [...args, "--output_path", output, ...plainArguments(modelArgs)],
      { cwd: evalTasks, env: offlineEnvironment(join(home.path, "typed-home")) },
    );
    assert.equal(done.code, 0, done.stderr.slice(-2_000));
    const typed = await readPlainResult(output);
    assert.deepEqual(comparable(got[name] as LeafResult), comparable(typed), name);
  }
});

async function evaluate(
  harness: Harness,
  directory: string,
  leaves: readonly RunLeaf[],
  evaluation: Evaluation,
  env: Record<string, string>,
): Promise<Record<string, LeafResult>> {
  const settings = runSettings(directory, leaves, {
    evaluation,
    env,
    base_url_prefix: `http://127.0.0.1:${env["EH_PORT"]}/batch`,
  });
  const { messages, ended } = await runBatch(harness, settings);
  assert.deepEqual(ofType(messages, "leaf_failed"), []);
  assert.deepEqual(ofType(messages, "error"), []);
  assert.equal(ended.exit_code, 0);
  const results: Record<string, LeafResult> = {};
  for (const done of ofType(messages, "leaf_done")) {
    results[done.leaf] = await readResult(done.path, done.samples_path ?? undefined);
  }
  assert.deepEqual(
    Object.keys(results),
    leaves.map(({ id }) => id),
  );
  return results;
}
