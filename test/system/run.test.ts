import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { processesWithEnvironment, sendSignal } from "../../src/base/proc.ts";
import { requirePython, root } from "../support/require.ts";
import { temporaryDirectory } from "../support/temporary.ts";
import { until } from "../support/until.ts";

const cli = join(root, "bin/eval-hive");

/** Pids of agents' and servers' processes: all carry the directory's own mark. */
async function marked(mark: string): Promise<number[]> {
  return await processesWithEnvironment("EVAL_HIVE_TEST_MARK", mark);
}

async function leafFiles(results: string): Promise<string[]> {
  const names = await readdir(results, { recursive: true }).catch(() => []);
  return names.filter((name) => /results_[^/]*\.json$/.test(name) && !/\/\.[^/]*$/.test(name));
}

test("a run whose agent is killed half-way ends with every leaf once, and leaves no process", async (t) => {
  const python = requirePython(t);
  if (python === undefined) return;
  await using directory = await temporaryDirectory("eval hive ");
  const models = join(directory.path, "models");
  const trained = spawnSync(process.execPath, [
    join(root, "examples/demo/train.ts"),
    "--output",
    models,
  ]);
  assert.equal(trained.status, 0, String(trained.stderr));
  const original = await readFile(join(root, "examples/demo/eh_config.yaml"), "utf8");
  const config = join(directory.path, "two.yaml");
  const results = join(directory.path, "results");
  await writeFile(
    config,
    original
      .replaceAll("./runs/demo-models", models)
      .replace("output_path: runs/demo/results", `output_path: ${results}`)
      .replace(
        "checkpoint_pattern: step_{step}",
        "checkpoint_pattern: step_{step}\n    steps: [100]",
      ),
  );
  const mark = `run-test-${process.pid}-${Date.now()}`;
  const env = {
    ...process.env,
    EVAL_HIVE_PYTHON: python,
    EVAL_HIVE_NODE: process.execPath,
    EVAL_HIVE_TEST_MARK: mark,
  };
  const run = join(directory.path, "run");
  const first = spawn(cli, ["run", config, "--output", run], { cwd: root, env, stdio: "ignore" });
  const firstEnded = new Promise((resolve) => first.once("exit", resolve));
  await until(async () => (await leafFiles(results)).length >= 3, {
    timeoutMs: 120_000,
    what: "three leaves",
  });
  first.kill("SIGKILL");
  await firstEnded;
  await until(async () => (await marked(mark)).length === 0, {
    timeoutMs: 60_000,
    what: "nothing runs",
  });

  const second = spawnSync(cli, ["run", run, "--json"], { cwd: root, env, encoding: "utf8" });
  for (const pid of await marked(mark)) sendSignal(pid, "SIGKILL");
  assert.equal(second.status, 0, second.stderr);
  const answer = JSON.parse(second.stdout) as { leaves: { done: number; total: number } };
  assert.deepEqual([answer.leaves.done, answer.leaves.total], [16, 16]);
  const files = await leafFiles(results);
  assert.equal(files.length, 16);
  assert.equal(new Set(files).size, 16);

  const collected = spawnSync(cli, ["collect", run, "--json"], {
    cwd: root,
    env,
    encoding: "utf8",
  });
  assert.equal(collected.status, 0, collected.stderr);
});
