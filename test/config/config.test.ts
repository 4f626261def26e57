import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { stringifyJson } from "../../src/base/json.ts";
import { ConfigError } from "../../src/config/issue.ts";
import { parseConfig } from "../../src/config/load.ts";
import { type ConfigLines, configText, loadText } from "../support/config-text.ts";

/** The lines that set one key: `eval.timeout`, `models.tiny.steps`, or one at the top. */
function setting(path: string, yaml: string): ConfigLines {
  if (path.startsWith("eval.")) return { eval: `${path.slice(5)}: ${yaml}` };
  if (path.startsWith("models.tiny.")) return { model: `${path.slice(12)}: ${yaml}` };
  return { top: `${path}: ${yaml}` };
}

function valueAt(value: unknown, path: string): unknown {
  return path
    .split(".")
    .reduce<unknown>((at, key) => (at as Record<string, unknown> | undefined)?.[key], value);
}

/** What a key becomes, when it is written so. */
function read(path: string, yaml: string, more: ConfigLines = {}): unknown {
  return valueAt(loadText({ ...more, ...setting(path, yaml) }).config, path);
}

function mistakesIn(text: string): string[] {
  try {
    parseConfig("c.yaml", text);
    return [];
  } catch (error) {
    assert.ok(error instanceof ConfigError, String(error));
    return error.issues.map(({ message }) => message);
  }
}

function mistakes(lines: ConfigLines): string[] {
  return mistakesIn(configText(lines));
}

function assertRefused(path: string, yaml: string, message: RegExp): void {
  const found = mistakes(setting(path, yaml));
  assert.equal(found.length, 1, `${path}: ${yaml}: ${found.join("; ")}`);
  assert.match(found[0] ?? "", message, `${path}: ${yaml}`);
}

describe("a config that says the least", () => {
  test("has the defaults of the original, and ours", () => {
    assert.deepEqual(loadText().config, {
      job_name: "eval-hive",
      partition: null,
      account: null,
      qos: null,
      cpus_per_node: null,
      gres_per_node: null,
      time_limit: null,
      additional_sbatch_args: null,
      drain_signal_s: 300,
      max_resubmissions: 20,
      requeue: false,
      on_preempt: "resubmit",
      node_address: "{node}",
      pixi_manifest: null,
      pixi_env: null,
      env_activation_command: null,
      inference_server_command: null,
      num_inference_servers: 1,
      num_nodes_per_inference_server: 1,
      servers_per_node: 1,
      units_per_job: 1,
      parallel_tasks: 1,
      env_vars: null,
      health_check_max_wait_minutes: 10,
      health_check_interval_seconds: 20,
      server_start_max_attempts: 3,
      journal: true,
      journal_dir: null,
      journal_max_gib: 8,
      task_batch_size: 8,
      eval: {
        suites_and_tasks: ["arc_easy"],
        exclude_tasks: [],
        eval_suite_path: null,
        model_args: {},
        lm_eval_args: {},
        timeout: 600,
        max_retries: 5,
        phase_timeout_minutes: 120,
      },
      output_path: "results",
      request_cache_dir: null,
      prepare_tokenizer: null,
      hf_result_repo: null,
      harness_command: null,
      harness_engine: "fast",
      offline: "auto",
      legacy: "check",
      queue: { kind: "filesystem", url: null },
      models: {
        tiny: {
          path: "org/tiny",
          display_name: "Tiny",
          model_key: null,
          checkpoint_pattern: null,
          steps: null,
          step_offset: 0,
          train_batch_size: null,
          tokens_trained: null,
          profile: {},
          vars: {},
        },
      },
    });
  });

  for (const line of [
    "output_path: results",
    "  suites_and_tasks: [arc_easy]",
    "    path: org/tiny",
    "    display_name: Tiny",
  ]) {
    const key = line.trim().split(":")[0];
    test(`can't do without ${key}`, () => {
      const text = configText({ eval: "timeout: 5", model: "step_offset: 0" });
      const found = mistakesIn(text.replace(`${line}\n`, ""));
      assert.equal(found.length, 1, found.join("; "));
      assert.match(found[0] ?? "", new RegExp(`^"${key}" is missing`));
    });
  }

  test("needs at least one task and one model", () => {
    const text = configText();
    assert.deepEqual(mistakesIn(text.replace("[arc_easy]", "[]")), [
      '"suites_and_tasks" must not be empty',
    ]);
    assert.deepEqual(mistakesIn(text.replace(/models:[\s\S]*/, "models: {}")), [
      '"models" must not be empty',
    ]);
  });
});

describe("whole numbers", () => {
  const keys: readonly (readonly [path: string, minimum: number])[] = [
    ["cpus_per_node", 1],
    ["num_inference_servers", 1],
    ["num_nodes_per_inference_server", 1],
    ["servers_per_node", 1],
    ["units_per_job", 1],
    ["parallel_tasks", 1],
    ["task_batch_size", 1],
    ["health_check_max_wait_minutes", 1],
    ["health_check_interval_seconds", 1],
    ["server_start_max_attempts", 1],
    ["journal_max_gib", 1],
    ["drain_signal_s", 1],
    ["max_resubmissions", 0],
    ["eval.timeout", 1],
    ["eval.max_retries", 1],
    ["eval.phase_timeout_minutes", 1],
    ["models.tiny.train_batch_size", 0],
    ["models.tiny.tokens_trained", 0],
  ];
  for (const [path, minimum] of keys) {
    test(`${path} is one of at least ${minimum}, in any of the original's spellings`, () => {
      const serves = path.includes("server") || path.startsWith("units");
      const read1 = (yaml: string) =>
        valueAt(
          parseConfig(
            "c.yaml",
            `${configText(setting(path, yaml))}${serves ? "inference_server_command: serve\n" : ""}`,
          ).config,
          path,
        );
      for (const [yaml, value] of [
        [String(minimum), minimum],
        ['"12"', 12],
        ["12.0", 12],
        ["2_097_152", 2_097_152],
        ["true", 1],
        ["0x10", 16],
        ["010", 8],
      ] as const) {
        assert.equal(read1(yaml), value, yaml);
      }
      assertRefused(path, String(minimum - 1), new RegExp(`must be .*, not ${minimum - 1}$`));
      for (const yaml of ["many", "{a: 1}", ".inf", ".nan", "1.5e12"]) {
        assertRefused(path, yaml, /must be a whole number/);
      }
      if (path.endsWith("tokens_trained")) return;
      for (const yaml of ["[1]", "1.5"]) assertRefused(path, yaml, /must be a whole number/);
    });
  }

  test("are below 2^53 where nothing larger makes sense, and exact beyond it where it does", () => {
    assertRefused("parallel_tasks", "9007199254740993", /must be a whole number below 2\^53/);
    for (const key of ["train_batch_size", "tokens_trained", "step_offset"]) {
      assert.equal(read(`models.tiny.${key}`, "9007199254740993"), 9007199254740993n);
    }
    const model = 'checkpoint_pattern: "s{step}"\nsteps: [9007199254740993, 5]';
    const { steps } = loadText({ model }).config.models.tiny ?? {};
    assert.deepEqual(steps, [9007199254740993n, 5]);
  });

  test("may be null where the original says so: task_batch_size then means leaf by leaf", () => {
    assert.equal(read("task_batch_size", "null"), null);
    assert.equal(read("models.tiny.train_batch_size", "~"), null);
    assert.equal(read("models.tiny.tokens_trained", ""), null);
    assertRefused("parallel_tasks", "null", /must be a whole number of at least 1, but is empty/);
  });
});

describe("text", () => {
  test("may be empty for job_name, partition, account, qos, gres and display_name", () => {
    for (const key of ["job_name", "partition", "account", "qos", "gres_per_node"]) {
      assert.equal(read(key, '""'), "");
    }
    const text = configText().replace("display_name: Tiny", 'display_name: ""');
    assert.equal(parseConfig("c.yaml", text).config.models.tiny?.display_name, "");
  });

  test("must not be empty where it names something", () => {
    for (const path of [
      "pixi_manifest",
      "env_activation_command",
      "inference_server_command",
      "request_cache_dir",
      "prepare_tokenizer",
      "hf_result_repo",
      "eval.eval_suite_path",
      "models.tiny.model_key",
      "models.tiny.checkpoint_pattern",
    ]) {
      const found = mistakes(setting(path, '""'));
      assert.match(found.join("; "), new RegExp(`"${path.split(".").at(-1)}" must not be empty`));
    }
    for (const [from, to] of [
      ["path: org/tiny", 'path: ""'],
      ["output_path: results", 'output_path: ""'],
      ["[arc_easy]", '[arc_easy, ""]'],
    ] as const) {
      assert.match(mistakesIn(configText().replace(from, to)).join("; "), /must not be empty/);
    }
  });

  test("holds no line break where it becomes a line of a batch script", () => {
    for (const key of ["job_name", "partition", "account", "qos", "gres_per_node"]) {
      assertRefused(key, '"a\\nb"', /must not hold a line break/);
    }
    assertRefused("additional_sbatch_args", '{mem: "1\\r2"}', /"mem" must not hold a line break/);
  });

  test("is not guessed from a number, a boolean, a list or a map", () => {
    for (const path of ["partition", "gres_per_node", "hf_result_repo", "eval.eval_suite_path"]) {
      for (const yaml of ["4", "yes", "[a]", "{a: b}", "1.5"]) {
        assertRefused(path, yaml, /must be text, not /);
      }
    }
  });
});

describe("a time limit", () => {
  test("has one of Slurm's forms", () => {
    for (const text of ["90", "5:30", "12:30:00", "2-0", "1-12:30", "1-12:30:15", "0"]) {
      assert.equal(read("time_limit", `"${text}"`), text);
    }
    for (const text of [
      "",
      "1_0:00",
      "1h",
      "1:2:3:4",
      "1-2:3:4:5",
      "-5",
      "1-",
      "1 day",
      "UNLIMITED",
    ]) {
      assertRefused("time_limit", `"${text}"`, /must be a time limit: M, M:S, H:M:S, D-H/);
    }
  });

  test("without quotes is a number of YAML 1.1, and refused with the right spelling", () => {
    for (const [written, number] of [
      ["24:00:00", 86_400],
      ["12:30:00", 45_000],
      ["1:30", 90],
    ] as const) {
      assertRefused("time_limit", written, new RegExp(`became the number ${number}, .*${written}`));
    }
    assertRefused("time_limit", "60", /must be text, not a number/);
    assert.equal(read("time_limit", "2-00:00:00"), "2-00:00:00");
    assert.equal(
      read("time_limit", "08:00:00"),
      "08:00:00",
      "08 is no octal number, so it is text",
    );
  });
});

describe("additional_sbatch_args", () => {
  const reserved =
    "job-name partition account qos array nodes cpus-per-task gres time signal output error dependency requeue no-requeue wait gpus gpus-per-node gpus-per-socket gpus-per-task gpu-bind gpu-freq cpus-per-gpu cores-per-socket sockets-per-node threads-per-core ntasks ntasks-per-node ntasks-per-core ntasks-per-socket ntasks-per-gpu hint extra-node-info tres-bind tres-per-task";

  test("takes any other option, with or without its dashes", () => {
    assert.deepEqual(
      read("additional_sbatch_args", '{--mem: 0G, exclude: "n[1-3]", exclusive: ""}'),
      {
        mem: "0G",
        exclude: "n[1-3]",
        exclusive: "",
      },
    );
    assert.equal(read("additional_sbatch_args", "null"), null);
  });

  test("refuses each option that eval-hive sets itself", () => {
    for (const option of reserved.split(" ")) {
      for (const key of [option, `--${option}`]) {
        assertRefused("additional_sbatch_args", `{"${key}": x}`, /is set by eval-hive$/);
      }
    }
  });

  test("refuses what is no long option, values that are no text, and one option in two spellings", () => {
    for (const key of ["-p", "p", "mem=4G", "a b", ""]) {
      assertRefused("additional_sbatch_args", `{"${key}": x}`, /is no sbatch option$/);
    }
    assertRefused("additional_sbatch_args", "{mem: 4}", /"mem" must be text, not a number/);
    assertRefused("additional_sbatch_args", "{mem: 4G, --mem: 5G}", /"--mem" is given twice/);
    assertRefused("additional_sbatch_args", "[--mem=4G]", /must be a map, not a list/);
  });

  test("tells a reserved option also when a value beside it is wrong", () => {
    assert.deepEqual(mistakes({ top: "additional_sbatch_args: {mem: 4, time: '1'}" }), [
      '"mem" must be text, not a number',
      '"time" is set by eval-hive',
    ]);
  });
});

describe("env_vars", () => {
  test("are names and text", () => {
    assert.deepEqual(read("env_vars", '{HF_HOME: "${SCRATCH}/hf", _x1: ""}'), {
      HF_HOME: "${SCRATCH}/hf",
      _x1: "",
    });
    for (const key of ["1X", "A-B", "A B", "", "A=B", "ü"]) {
      assertRefused("env_vars", `{"${key}": x}`, /is no name for an environment variable$/);
    }
    assertRefused("env_vars", "{A: 1}", /"A" must be text, not a number/);
    assertRefused("env_vars", "{A: null}", /"A" must be text, but is empty/);
  });
});

describe("inference_server_command", () => {
  test("has one blank for a backslash and the whitespace after it, and keeps its quotes", () => {
    const folded = [
      "inference_server_command: >-",
      '  vllm serve "${EH_MODEL_PATH}" \\',
      "    --port ${EH_PORT} \\",
      "    --compilation-config '{\"a\": [1, 2]}'",
    ].join("\n");
    assert.equal(
      loadText({ top: folded }).config.inference_server_command,
      'vllm serve "${EH_MODEL_PATH}"  --port ${EH_PORT}  --compilation-config \'{"a": [1, 2]}\'',
    );
    const literal = folded.replace(">-", "|");
    assert.match(
      loadText({ top: literal }).config.inference_server_command ?? "",
      /" {2}--port \$\{EH_PORT\} {2}--comp/,
    );
  });

  test("is needed for more than one server of any kind", () => {
    for (const key of ["num_inference_servers", "servers_per_node", "units_per_job"]) {
      assertRefused(key, "2", new RegExp(`"${key}" above 1 needs inference_server_command`));
      assert.deepEqual(mistakes({ top: `${key}: 2\ninference_server_command: serve` }), []);
    }
    assert.deepEqual(mistakes({ top: "num_nodes_per_inference_server: 4" }), []);
  });

  test("can't share nodes and span nodes at once", () => {
    const top =
      "inference_server_command: serve\nservers_per_node: 2\nnum_nodes_per_inference_server: 2";
    assert.deepEqual(mistakes({ top }), [
      '"servers_per_node" and "num_nodes_per_inference_server" can\'t both be above 1',
    ]);
  });
});

describe("model_args and lm_eval_args", () => {
  test("hold any value that lm_eval can read, with integers exact", () => {
    const { model_args: args } = loadText({
      eval: "model_args: {a: yes, b: null, c: 1.0, d: 1.0e-7, e: 012, f: 12345678901234567890, g: {h: [1, x]}, i: '1', j: .inf, k: ''}",
    }).config.eval;
    assert.deepEqual(args, {
      a: true,
      b: null,
      c: "1.0",
      d: 1e-7,
      e: 10,
      f: 12345678901234567890n,
      g: { h: [1, "x"] },
      i: "1",
      j: "inf",
      k: "",
    });
    assert.match(stringifyJson(args), /"f":12345678901234567890,/);
  });

  test("refuse the arguments that have keys of their own, in any spelling", () => {
    for (const key of [
      "output_path",
      "model_args",
      "tasks",
      "include_path",
      "--tasks",
      "include-path",
    ]) {
      assertRefused("eval.lm_eval_args", `{${key}: x}`, /is set by eval-hive$/);
    }
    assert.deepEqual(
      mistakes({ eval: "model_args: {tasks: x}\nlm_eval_args: {constructor: x}" }),
      [],
    );
  });
});

describe("where lm_eval comes from", () => {
  test("pixi_manifest and pixi_env go together", () => {
    assert.deepEqual(mistakes({ top: "pixi_manifest: pixi.toml\npixi_env: eval" }), []);
    assertRefused("pixi_manifest", "pixi.toml", /"pixi_manifest" needs pixi_env/);
    assertRefused("pixi_env", "eval", /"pixi_env" needs pixi_manifest/);
  });

  test("harness_command is words of a shell, or a list", () => {
    assert.deepEqual(read("harness_command", "singularity exec -B '/a b' lm.sif python3"), [
      "singularity",
      "exec",
      "-B",
      "/a b",
      "lm.sif",
      "python3",
    ]);
    assert.deepEqual(read("harness_command", '[env, "A=b c", python3]'), [
      "env",
      "A=b c",
      "python3",
    ]);
    assertRefused("harness_command", '"python \\"x"', /has an open quote/);
    for (const yaml of ['""', "[]", '" "']) {
      assertRefused("harness_command", yaml, /must not be empty/);
    }
  });
});

describe("choices", () => {
  const choices: readonly (readonly [path: string, values: string, wrong: string])[] = [
    ["on_preempt", "resubmit stop", "resubmitt"],
    ["harness_engine", "fast plain", "plane"],
    ["offline", "auto always never", "alway"],
    ["legacy", "check trust ignore", "trusted"],
  ];
  for (const [path, values, wrong] of choices) {
    test(`${path} is one of ${values}; another word gets the nearest`, () => {
      for (const value of values.split(" ")) assert.equal(read(path, value), value);
      assertRefused(path, wrong, new RegExp(`must be one of .*, not "${wrong}"`));
    });
  }

  test("offline may be true or false, requeue and journal are", () => {
    assert.equal(read("offline", "yes"), "always");
    assert.equal(read("offline", "off"), "never");
    assert.equal(read("requeue", "on"), true);
    assert.equal(read("journal", "no"), false);
    assertRefused("requeue", '"yes"', /must be true or false, not "yes"/);
  });

  test("node_address holds the node's name", () => {
    assert.equal(read("node_address", '"{node}i"'), "{node}i");
    for (const yaml of ["node1", '"{node} i"', '"{}"']) {
      assertRefused("node_address", yaml, /must hold "\{node\}"/);
    }
  });

  test("a queue of kind nats needs its url", () => {
    assert.deepEqual(read("queue", "{kind: nats, url: 'nats://login:4222'}"), {
      kind: "nats",
      url: "nats://login:4222",
    });
    assert.deepEqual(read("queue", "{kind: auto}"), { kind: "auto", url: null });
    assertRefused("queue", "{kind: nats}", /"kind: nats" needs url/);
    assertRefused("queue", "{kind: redis}", /must be one of filesystem, nats, auto/);
  });
});

describe("a model entry", () => {
  test("may have its key as model_key, or another, but none that leaves output_path", () => {
    assert.equal(read("models.tiny.model_key", "org/other"), "org/other");
    assert.equal(read("models.tiny.model_key", "null"), null);
    for (const key of ["../x", "/x", "a//b", "a/../b", "."]) {
      assertRefused("models.tiny.model_key", key, /must stay inside output_path/);
      const entry = `"${key}": {path: p, display_name: d`;
      assert.match(mistakes({ models: `${entry}}` }).join(), /leaves output_path/);
      assert.deepEqual(mistakes({ models: `${entry}, model_key: safe}` }), []);
    }
  });

  test("has a pattern for one directory that holds {step} once", () => {
    for (const pattern of ["step_{step}", "*-{step}*", "{step}"]) {
      assert.equal(read("models.tiny.checkpoint_pattern", `"${pattern}"`), pattern);
    }
    for (const pattern of ["step", "{step}{step}", "{steps}"]) {
      assertRefused("models.tiny.checkpoint_pattern", `"${pattern}"`, /must hold \{step\} once/);
    }
    assertRefused("models.tiny.checkpoint_pattern", '"a/{step}"', /the name of one directory/);
  });

  test("has steps only with a pattern, and never none", () => {
    assert.deepEqual(
      loadText({ model: 'checkpoint_pattern: "{step}"\nsteps: ["1", 2.0, 0]' }).config.models.tiny
        ?.steps,
      [1, 2, 0],
    );
    assertRefused("models.tiny.steps", "[1]", /"steps" needs checkpoint_pattern/);
    const withPattern = (yaml: string) =>
      mistakes({ model: `checkpoint_pattern: "{step}"\nsteps: ${yaml}` }).join("; ");
    assert.match(withPattern("[]"), /"steps" must not be empty/);
    assert.match(withPattern("[1, -2]"), /item 2 of "steps" must be a whole number of at least 0/);
    assert.match(withPattern("5"), /"steps" must be a list, not 5/);
  });

  test("has a list of tokens as long as its steps", () => {
    const withTokens = (tokens: string, steps = "steps: [1, 2]") =>
      mistakes({ model: `checkpoint_pattern: "{step}"\n${steps}\ntokens_trained: ${tokens}` });
    assert.deepEqual(withTokens("[1B, 2B]"), []);
    assert.deepEqual(withTokens("[1B]"), ['"tokens_trained" has 1 items, "steps" has 2']);
    assert.deepEqual(withTokens("[1B]", ""), ['a list in "tokens_trained" needs steps']);
    assert.match(withTokens("[1B, many]").join(), /item 2 of "tokens_trained" must be a whole/);
  });

  test("may have a negative step_offset", () => {
    assert.equal(read("models.tiny.step_offset", "-1000"), -1000);
  });
});

describe("keys", () => {
  test("that nobody knows are mistakes at every level", () => {
    assert.deepEqual(
      mistakes({
        top: "colour: red\nqueue: {colour: red}",
        eval: "colour: red",
        model: "colour: red\nprofile: {colour: red, eval: {colour: red}}",
      }),
      Array(6).fill('unknown key "colour"'),
    );
  });

  test("that begin with x- are notes at every level", () => {
    const lines = {
      top: "x-a: {anything: [1]}\nqueue: {x-a: 1}\nenv_vars: {x-a: 1}\nadditional_sbatch_args: {x-a: 1}",
      eval: "x-a: 1\nmodel_args: {x-a: 1}\nlm_eval_args: {x-a: 1}",
      model: "x-a: 1\nprofile: {x-a: 1, env_vars: {x-a: [1]}, eval: {x-a: 1}}\nvars: {x-a: [1]}",
      models: "x-a: {display_name: only an anchor}",
    };
    const { config } = loadText(lines);
    assert.doesNotMatch(stringifyJson(config), /x-a/);
  });

  test("x- before a whole model entry is a model, with a warning", () => {
    const { config, warnings } = loadText({
      models: "x-large: {path: org/x-large, display_name: X, tokens_trained: 1}",
      model: "tokens_trained: 1",
    });
    assert.deepEqual(Object.keys(config.models), ["tiny", "x-large"]);
    assert.deepEqual(
      warnings.map(({ message }) => message),
      ['"x-large" is evaluated as a model, since it has a path and a display_name'],
    );
  });

  test("of objects in JavaScript are keys like any other", () => {
    for (const key of ["constructor", "toString", "hasOwnProperty", "__proto__"]) {
      assert.deepEqual(mistakes({ top: `${key}: 1` }), [`unknown key "${key}"`]);
    }
    const { config } = loadText({ models: "constructor: {path: org/c, display_name: C}" });
    assert.deepEqual(Object.keys(config.models), ["tiny", "constructor"]);
  });
});
