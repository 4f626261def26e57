import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, test } from "node:test";
import { runToEnd } from "../../src/base/spawn.ts";
import { evalHive, launcher } from "../support/eval-hive.ts";
import { makeSyntheticRun } from "../support/synthetic-run.ts";
import { temporaryDirectory } from "../support/temporary.ts";

/** A home of its own, and no Python. */
async function place(prefix?: string) {
  const directory = await temporaryDirectory(prefix);
  const env = { PATH: process.env["PATH"], HOME: directory.path, EVAL_HIVE_PYTHON: "/no/python" };
  return {
    call: { cwd: directory.path, env },
    path: directory.path,
    [Symbol.asyncDispose]: () => directory[Symbol.asyncDispose](),
  };
}

const minimalConfig = `models: {tiny: {path: org/tiny, display_name: Tiny, tokens_trained: 1}}
inference_server_command: serve
eval: {suites_and_tasks: [a], lm_eval_args: {model: local-completions}}
output_path: results
`;

describe("an error with --json is an answer on stdout, with the exit code of the error", () => {
  const cases: readonly [args: string[], code: number, error: string][] = [
    [["status"], 2, "usage"],
    [["status", "--no-such-option"], 2, "usage"],
    [["stauts", "run"], 2, "usage"],
    [[], 2, "usage"],
    [["status", "nowhere"], 2, "run.missing"],
    [["collect", "nowhere"], 2, "run.missing"],
    [["collect", "good.yaml"], 2, "run.missing"],
    [["events", "good.yaml"], 2, "run.missing"],
    [["requeue", "good.yaml"], 2, "run.missing"],
    [["run", "nowhere.yaml"], 2, "config.unreadable"],
    [["run", "broken.yaml"], 2, "config.invalid"],
    [["create-run", "-c", "broken.yaml", "-o", "run"], 2, "config.invalid"],
    [["create-run", "-c", "good.yaml", "-o", "run", "--update", "--force"], 2, "usage"],
    [["create-run", "-c", "good.yaml", "-o", "run"], 3, "harness.no-python"],
    [["create-run", "-c", "good.yaml", "-o", "good.yaml/run"], 2, "system.enotdir"],
  ];
  for (const [args, code, error] of cases) {
    test(`eval-hive ${args.join(" ")}: ${error}`, async () => {
      await using at = await place();
      await writeFile(join(at.path, "broken.yaml"), "models: []\n");
      await writeFile(join(at.path, "good.yaml"), minimalConfig);
      const json = await evalHive([...args, "--json"], at.call);
      const answer = JSON.parse(json.stdout);
      assert.deepEqual([json.code, answer.schema_version], [code, 1]);
      assert.deepEqual([answer.error.code, answer.error.exit_code], [error, code]);
      assert.match(answer.error.message, /\w/);
      const text = await evalHive(args, at.call);
      assert.deepEqual([text.code, text.stdout], [code, ""]);
      assert.match(text.stderr, /\w/);
    });
  }
});

test("a config's errors with --json are in the answer of validate-config, all at once", async () => {
  await using at = await place();
  await writeFile(join(at.path, "broken.yaml"), "models: []\nmodells: {}\n");
  const { code, stdout } = await evalHive(["validate-config", "broken.yaml", "--json"], at.call);
  const { schema_version, errors, manifest } = JSON.parse(stdout);
  assert.deepEqual([code, schema_version, manifest], [2, 1, null]);
  assert(errors.length > 2);
});

test("help and version are answers on stdout", async () => {
  await using at = await place();
  const commands = ["validate-config", "create-run", "run", "status", "collect"];
  const help = await evalHive(["--help"], at.call);
  assert.deepEqual([help.code, help.stderr], [0, ""]);
  for (const command of commands) {
    assert.match(help.stdout, new RegExp(`^  ${command} `, "m"));
    const { code, stdout, stderr } = await evalHive([command, "--help"], at.call);
    assert.deepEqual([code, stderr], [0, ""]);
    assert.match(stdout, new RegExp(`Examples:\n  \\$ eval-hive ${command} `));
    assert.match(stdout, /--json/);
  }
  assert.match((await evalHive(["--version"], at.call)).stdout, /^\d+\.\d+\.\d+$/);
});

test("a reader that has seen enough is no failure", async () => {
  await using at = await place();
  // More than a pipe holds.
  const run = await makeSyntheticRun({ directory: at.path, units: 1_000, leaves: 4 });
  const commands = [
    `"${launcher}" status "${run.layout.directory}" --detailed | head -n 1`,
    `"${launcher}" status "${run.layout.directory}" --json | head -n 1`,
    `"${launcher}" status nowhere 2>&1 | true`,
  ];
  for (const command of commands) {
    const { code, stderr } = await runToEnd("bash", ["-o", "pipefail", "-c", command], at.call);
    assert.deepEqual([code, stderr], [command.includes("nowhere") ? 2 : 0, ""]);
  }
});

test("an old Node is named, instead of a syntax error", async () => {
  await using at = await place();
  const pretend =
    'Object.defineProperty(process.versions, "node", { value: "20.11.0" }); delete globalThis.SuppressedError;';
  await writeFile(join(at.path, "pretend.mjs"), pretend);
  const node = join(at.path, "node");
  const script = `#!/bin/sh\nexec "${process.execPath}" --import "${at.path}/pretend.mjs" "$@"\n`;
  await writeFile(node, script, { mode: 0o755 });
  const env = { ...at.call.env, EVAL_HIVE_NODE: node };
  const { code, stderr } = await evalHive(["status", "run"], { cwd: at.path, env });
  assert.equal(code, 3);
  assert.match(stderr, /^eval-hive: Cannot run on Node 20\.11\.0: eval-hive needs 24\n/);
});
