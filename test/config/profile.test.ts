import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { ConfigError } from "../../src/config/issue.ts";
import { resolveProfile, type Settings } from "../../src/config/profile.ts";
import { ProfileBlock } from "../../src/config/profile-block.ts";
import { type ConfigLines, loadText } from "../support/config-text.ts";

function settingsOf(lines: ConfigLines): Settings {
  return resolveProfile(loadText(lines).config, "tiny");
}

function mistakes(lines: ConfigLines): string[] {
  try {
    loadText(lines);
    return [];
  } catch (error) {
    assert.ok(error instanceof ConfigError);
    return error.issues.map(({ line, message }) => `${line}: ${message}`);
  }
}

describe("a model entry's profile", () => {
  test("may override resources, server, scaling, environment and evaluation arguments", () => {
    assert.deepEqual(Object.keys(ProfileBlock.shape).sort(), [
      "account",
      "additional_sbatch_args",
      "cpus_per_node",
      "drain_signal_s",
      "env_vars",
      "eval",
      "gres_per_node",
      "health_check_interval_seconds",
      "health_check_max_wait_minutes",
      "inference_server_command",
      "journal",
      "journal_dir",
      "journal_max_gib",
      "max_resubmissions",
      "node_address",
      "num_inference_servers",
      "num_nodes_per_inference_server",
      "on_preempt",
      "parallel_tasks",
      "partition",
      "qos",
      "requeue",
      "server_start_max_attempts",
      "servers_per_node",
      "time_limit",
      "units_per_job",
    ]);
    assert.deepEqual(Object.keys(ProfileBlock.shape.eval.unwrap().shape).sort(), [
      "lm_eval_args",
      "max_retries",
      "model_args",
      "phase_timeout_minutes",
      "timeout",
    ]);
  });

  test("says nothing about what it leaves out", () => {
    const { profile } = loadText({ model: "profile: {eval: {}}" }).config.models.tiny ?? {};
    assert.deepEqual(profile, { eval: {} });
  });

  test("replaces single values and merges maps", () => {
    const settings = settingsOf({
      top: [
        'time_limit: "1:00:00"',
        "partition: small",
        "env_vars: {A: base, B: base}",
        "additional_sbatch_args: {mem: 1G, exclude: n1}",
      ].join("\n"),
      eval: "model_args: {max_length: 2048, model: m}\ntimeout: 5",
      model: [
        "profile:",
        "  partition: large",
        "  env_vars: {B: mine, C: mine}",
        "  additional_sbatch_args: {--mem: 2G}",
        "  eval: {model_args: {max_length: 4096}, max_retries: 9}",
      ].join("\n"),
    });
    assert.equal(settings.partition, "large");
    assert.equal(settings.time_limit, "1:00:00");
    assert.deepEqual(settings.env_vars, { A: "base", B: "mine", C: "mine" });
    assert.deepEqual(settings.additional_sbatch_args, { mem: "2G", exclude: "n1" });
    assert.deepEqual(settings.eval.model_args, { max_length: 4096, model: "m" });
    assert.deepEqual([settings.eval.timeout, settings.eval.max_retries], [5, 9]);
    assert.deepEqual(settings.eval.suites_and_tasks, ["arc_easy"]);
  });

  test("may take the server away, or bring one", () => {
    const top = "inference_server_command: serve\nenv_vars: null";
    const none = settingsOf({ top, model: "profile: {inference_server_command: null}" });
    assert.equal(none.inference_server_command, null);
    const one = settingsOf({
      model: "profile: {inference_server_command: other, env_vars: {A: b}}",
    });
    assert.equal(one.inference_server_command, "other");
    assert.deepEqual(one.env_vars, { A: "b" });
  });

  test("is held to the same rules, together with what it leaves as it is", () => {
    assert.deepEqual(mistakes({ model: "profile: {num_inference_servers: 2}" }), [
      '8: "num_inference_servers" above 1 needs inference_server_command',
    ]);
    const top = "inference_server_command: serve\nnum_inference_servers: 2";
    assert.deepEqual(mistakes({ top, model: "profile: {num_inference_servers: 3}" }), []);
    assert.deepEqual(mistakes({ top, model: "profile: {inference_server_command: null}" }), [
      '10: "num_inference_servers" above 1 needs inference_server_command',
    ]);
    assert.deepEqual(
      mistakes({
        model:
          "profile:\n  additional_sbatch_args: {mem: 1G, --mem: 2G}\n  time_limit: 1:00:00\n  cpus: 3",
      }).map((mistake) => mistake.replace(/,.*/, "")),
      [
        '9: "--mem" is given twice',
        '10: "time_limit" became the number 3600',
        '11: unknown key "cpus"',
      ],
    );
  });
});

describe("a model entry's vars", () => {
  test("fill ${NAME} in every text of its settings, and leave other names to the job", () => {
    const settings = settingsOf({
      top: 'inference_server_command: serve --tp ${TP} --port ${EH_PORT} ${TP}${TPX} $TP\nenv_vars: {X: "${NAME}"}',
      eval: "model_args: {tokenizer: 'tok/${NAME}', list: [{a: '${TP}'}]}",
      model: "vars: {TP: 4, NAME: a b, TPX: '${TP}'}",
    });
    assert.equal(settings.inference_server_command, "serve --tp 4 --port ${EH_PORT} 4${TP} $TP");
    assert.deepEqual(settings.env_vars, { X: "a b" });
    assert.deepEqual(settings.eval.model_args, { tokenizer: "tok/a b", list: [{ a: "4" }] });
  });

  test("are names and text or numbers, and none of the job's own", () => {
    assert.deepEqual(mistakes({ model: "vars: {EH_PORT: 1}" }), ['8: "EH_PORT" is set in the job']);
    assert.deepEqual(mistakes({ model: "vars: {1A: 1}" }), ['8: "1A" is no name for a variable']);
    assert.deepEqual(mistakes({ model: "vars: {A: [1]}" }), [
      '8: "A" must be text or a number, not a list',
    ]);
    assert.deepEqual(mistakes({ model: "vars: {A: yes}" }), [
      '8: "A" must be text or a number, not yes',
    ]);
  });

  test("that nothing uses are a warning", () => {
    const { warnings } = loadText({
      top: "inference_server_command: serve ${TP}",
      model: "vars: {TP: 4, PP: 2}\ntokens_trained: 1",
    });
    assert.deepEqual(
      warnings.map(({ path, message }) => [path, message]),
      [["models.tiny.vars.PP", '"PP" is used nowhere']],
    );
  });
});

test("an entry that the config does not have is a bug", () => {
  assert.throws(() => resolveProfile(loadText().config, "other"), RangeError);
});
