import assert from "node:assert/strict";
import { test } from "node:test";
import { indexCache, planFixtures, runTaskScript } from "../support/python-calls.ts";
import { isLong, requirePython } from "../support/require.ts";

type Trees = Record<string, { trees?: unknown; error?: string }>;

/** lm_eval's own folders that hold these groups and all that they name. */
const builtin = {
  folders:
    "builtin:arc,benchmarks,gsm8k,hellaswag,leaderboard,mmlu,mmlu-redux,truthfulqa,winogrande",
  groups: ["mmlu", "openllm", "leaderboard", "mmlu_generative", "mmlu_continuation"].concat(
    "mmlu_redux_generative",
  ),
};

/** Groups whose members lm_eval lists and does not have, or refuses: its own loader fails on them. */
const unloadable = new Set(
  ["afrimgsm-irokobench", "afrisenti", "flan_held_in", "humaneval_infilling", "mafand"].concat(
    // A function as the name of a metric: never equal to a leaf's metric, in lm_eval neither.
    ["code2text"],
  ),
);

for (const version of ["0.4.13", "0.4.12"] as const) {
  test(`local suites are the trees that lm_eval ${version} builds`, (t) => {
    const python = requirePython(t, version);
    if (python === undefined) return;
    const names = ["suite", "inner", "renamed", "written_out", "mc_tag", "few_tag", "python_task"];
    compare(python, planFixtures, ["--only", planFixtures, ...names], names);
  });

  if (isLong || version === "0.4.13")
    test(`built-in groups are the trees that lm_eval ${version} builds`, (t) => {
      const python = requirePython(t, version);
      if (python === undefined) return;
      compare(python, "-", ["--only", builtin.folders, ...builtin.groups], builtin.groups);
    });

  test(`t0_eval, which lm_eval ${version} refuses, still resolves, with a warning`, (t) => {
    const python = requirePython(t, version);
    if (python === undefined) return;
    const ours = runTaskScript<{ trees: Trees; warnings: string[] }>(python, "plan_tree.py", [
      indexCache,
      "-",
      "t0_eval",
    ]);
    assert.ok(ours.trees["t0_eval"]?.trees);
    assert.match(ours.warnings.join("\n"), /"t0_eval" .* members that lm_eval refuses/);
  });

  if (isLong) {
    test(`all groups and tags of lm_eval ${version} are the trees that it builds`, (t) => {
      const python = requirePython(t, version);
      if (python === undefined) return;
      const theirs = runTaskScript<Trees>(python, "lm_eval_tree.py", ["-"]);
      const names = Object.keys(theirs).filter(
        (name) => theirs[name]?.error === undefined && !unloadable.has(name),
      );
      assert.ok(names.length > 1500);
      const ours = runTaskScript<{ trees: Trees }>(python, "plan_tree.py", [
        indexCache,
        "-",
        ...names,
      ]);
      for (const name of names) assert.deepEqual(ours.trees[name], theirs[name], name);
    });
  }
}

function compare(python: string, includePath: string, theirArgs: string[], names: string[]): void {
  const theirs = runTaskScript<Trees>(python, "lm_eval_tree.py", theirArgs);
  const ours = runTaskScript<{ trees: Trees }>(python, "plan_tree.py", [
    indexCache,
    includePath,
    ...names,
  ]);
  for (const name of names) {
    assert.equal(theirs[name]?.error, undefined, name);
    assert.deepEqual(ours.trees[name], theirs[name], name);
  }
}
