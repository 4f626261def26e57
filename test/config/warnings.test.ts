import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { type ConfigLines, loadText } from "../support/config-text.ts";

function warningsOf(lines: ConfigLines): string[] {
  const model = `tokens_trained: 1B\n${lines.model ?? ""}`;
  return loadText({ ...lines, model }).warnings.map(({ line, message }) => `${line}: ${message}`);
}

describe("a valid config is warned about", () => {
  test("what submit lacks, unless it is not meant for submit at all", () => {
    assert.deepEqual(warningsOf({}), []);
    assert.deepEqual(warningsOf({ top: "partition: p\nqos: ''\naccount: a" }), [
      "1: submit also needs cpus_per_node, gres_per_node, time_limit",
    ]);
    const all =
      'partition: p\nqos: ""\naccount: a\ncpus_per_node: 1\ngres_per_node: ""\ntime_limit: "1"';
    assert.deepEqual(warningsOf({ top: all }), []);
  });

  test("an environment that is not used", () => {
    const top = "env_activation_command: source x\npixi_manifest: pixi.toml\npixi_env: e";
    assert.deepEqual(warningsOf({ top }), [
      "2: pixi_env is not used, since env_activation_command is set",
    ]);
  });

  test("variables that win over offline, in profiles too, unless they say the same", () => {
    const variables = 'env_vars: {HF_HUB_OFFLINE: "0", HF_DATASETS_OFFLINE: "yes", OTHER: "0"}';
    const both = (mode: string) =>
      warningsOf({ top: `offline: ${mode}\n${variables}`, model: `profile:\n  ${variables}` });
    for (const mode of ["always", "auto"]) {
      assert.deepEqual(both(mode), [
        `3: HF_HUB_OFFLINE: "0" wins over offline: ${mode}`,
        `12: HF_HUB_OFFLINE: "0" wins over offline: ${mode}`,
      ]);
    }
    assert.deepEqual(both("never"), [
      '3: HF_DATASETS_OFFLINE: "yes" wins over offline: never',
      '12: HF_DATASETS_OFFLINE: "yes" wins over offline: never',
    ]);
  });

  test("entries that don't say what they were trained on, in one warning for all that lack the same", () => {
    const entry = (name: string, more = "") =>
      `${name}: {path: org/${name}, display_name: D${more}}`;
    const series = ', checkpoint_pattern: "{step}"';
    assert.deepEqual(warningsOf({ models: entry("a") }).length, 1);
    assert.deepEqual(
      warningsOf({
        models: [
          entry("a"),
          entry("s1", series),
          entry("told", ", tokens_trained: 1"),
          entry("s2", `${series}, train_batch_size: 4`),
          ..."bcde".split("").map((name) => entry(name)),
        ].join("\n"),
      }),
      [
        '10: "a", "b", "c" and 2 more have no tokens_trained, so the results can\'t say how many tokens were seen in training',
        '11: "s1" has no train_batch_size, so the results can\'t say how many tokens were seen in training',
      ],
    );
  });
});
