import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { describe, test } from "node:test";
import { parse } from "yaml";
import { type ModelToTrain, modelsToTrain, trainModel } from "../../examples/demo/train.ts";
import { type ChildGroup, startGroup } from "../../src/base/spawn.ts";
import type { Evaluation } from "../../src/lmeval/protocol.ts";
import { assertEqualScores, plainArguments } from "../support/equal-scores.ts";
import {
  offlineEnvironment,
  type PlainJob,
  runPlainLmEval,
  runSettings,
  startTestHarness,
} from "../support/evaluations.ts";
import { isLong, requirePython, root } from "../support/require.ts";
import { temporaryDirectory } from "../support/temporary.ts";

const demo = join(root, "examples/demo");

interface DemoConfig {
  readonly eval: Evaluation & { readonly suites_and_tasks: readonly string[] };
}

/** The demo's server, at a port of its own choice. */
async function serve(model: string): Promise<ChildGroup & { readonly port: number }> {
  const server = await startGroup("sh", [join(demo, "serve.sh"), "--model", model, "--port", "0"], {
    env: { PATH: process.env["PATH"], EVAL_HIVE_NODE: process.execPath },
    stdout: "pipe",
  });
  assert(server.stdout !== undefined);
  for await (const line of createInterface({ input: server.stdout })) {
    return { ...server, port: (JSON.parse(line) as { port: number }).port };
  }
  throw new Error("The demo's server did not start");
}

interface Share {
  readonly version: "0.4.13" | "0.4.12";
  readonly model: ModelToTrain;
  /** Leaves out what draws 100,000 samples for a standard error. */
  readonly isQuick: boolean;
}

const shares: Share[] = isLong
  ? (["0.4.13", "0.4.12"] as const).flatMap((version) =>
      modelsToTrain.map((model) => ({ version, model, isQuick: false })),
    )
  : [{ version: "0.4.13", model: modelsToTrain[0] as ModelToTrain, isQuick: true }];

describe("the demo's tasks score with its real models as plain lm_eval scores each alone", () => {
  for (const { version, model, isQuick } of shares) {
    test(`lm_eval ${version}, ${model.directory}`, { timeout: 600_000 }, async (t) => {
      const python = requirePython(t, version);
      if (python === undefined) return;
      await using home = await temporaryDirectory();
      await trainModel(home.path, model);
      const path = join(home.path, model.directory);
      await using server = await serve(path);
      await using harness = await startTestHarness(python, join(home.path, "home"));
      const { eval: evaluation } = parse(
        await readFile(join(demo, "eh_config.yaml"), "utf8"),
      ) as DemoConfig;
      const planned = await harness.plan({
        suites: evaluation.suites_and_tasks.filter(
          (suite) => !isQuick || suite !== "demo_last_word",
        ),
        include_path: join(demo, "tasks"),
        cache_dir: join(home.path, "cache"),
        evaluations: { demo: evaluation },
      });
      const leaves = planned.leaves.map(({ id, name, source, overrides }) => {
        const fingerprint = planned.evaluations["demo"]?.fingerprints[id];
        assert(fingerprint !== undefined);
        return { id, name, source, overrides, fingerprint };
      });
      assert.equal(leaves.length, isQuick ? 7 : 8);

      const env = { EH_PORT: String(server.port), EH_MODEL_PATH: path };
      const filled = JSON.parse(
        JSON.stringify(evaluation.model_args)
          .replaceAll("${EH_PORT}", env.EH_PORT)
          .replaceAll("${EH_MODEL_PATH}", env.EH_MODEL_PATH),
      ) as Record<string, unknown>;
      const args = plainArguments("local-completions", filled, "--batch_size", "8");
      const job = (task: string): PlainJob => ({
        task,
        include_path: join(demo, "tasks"),
        arguments: args,
      });
      const plain = await runPlainLmEval({
        python,
        jobs: Object.fromEntries(leaves.map(({ id, name }) => [id, job(name)])),
        output: join(home.path, "plain"),
        env: offlineEnvironment(join(home.path, "plain-home")),
      });
      let batches = 0;
      await assertEqualScores({
        harness,
        leaves,
        plain,
        rounds: isLong ? 3 : 1,
        settings: (batch) =>
          runSettings(join(home.path, `batch-${batches++}`), batch, { evaluation, env }),
      });
    });
  }
});
