import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { ConfigError, renderIssue } from "../../src/config/issue.ts";
import { parseConfig } from "../../src/config/load.ts";

/** A config as people write them, in which each row below makes one mistake. */
const good = `# Evaluates the Tulip series.
job_name: tulip
partition: gpu
account: nlp
qos: normal
cpus_per_node: 16
gres_per_node: "gpu:4"
time_limit: "12:00:00"
additional_sbatch_args:
  mem: 64G
env_vars:
  HF_HOME: "\${SCRATCH}/hf"
inference_server_command: >-
  vllm serve "\${EH_MODEL_PATH}" --port \${EH_PORT}
num_inference_servers: 2
parallel_tasks: 4
task_batch_size: 8
eval:
  suites_and_tasks: [arc_easy, hellaswag]
  timeout: 600
  model_args:
    model: "\${EH_MODEL_PATH}"
  lm_eval_args:
    model: local-completions
output_path: results
models:
  tulip:
    path: /data/tulip
    display_name: Tulip
    checkpoint_pattern: "step_{step}"
    steps: [1000, 2000]
    train_batch_size: 4_194_304
  daisy:
    path: flower-lab/daisy
    display_name: Daisy
    tokens_trained: 15T
`;

/** What is changed to what, where the mistake is told (line and column of the broken file), what it says, the way out. */
type Row = readonly [
  from: string,
  to: string,
  place: string,
  message: string | RegExp,
  wayOut: string | RegExp,
];

const rows: Readonly<Record<string, Row>> = {
  "a misspelled key": [
    "partition: gpu",
    "partiton: gpu",
    "3:1",
    'unknown key "partiton"',
    'Did you mean "partition"?',
  ],
  "a misspelled key that is required": [
    "output_path:",
    "ouput_path:",
    "25:1",
    'unknown key "ouput_path"',
    'Did you mean "output_path"?',
  ],
  "a misspelled key that another needs": [
    "checkpoint_pattern:",
    "checkpoint-patern:",
    "30:5",
    'unknown key "checkpoint-patern"',
    'Did you mean "checkpoint_pattern"?',
  ],
  "a key of another block": [
    "  timeout: 600",
    "  parallel_tasks: 4",
    "20:3",
    'unknown key "parallel_tasks"',
    "It belongs at the top of the file.",
  ],
  "a key that nobody knows": [
    "    steps:",
    "    colour: red\n    steps:",
    "31:5",
    'unknown key "colour"',
    /Keys that start with "x-" are free/,
  ],
  "a missing key": [
    "output_path: results\n",
    "",
    "2:1",
    '"output_path" is missing',
    'Folder of the results. Add "output_path: ...".',
  ],
  "a missing key of an entry": [
    "    display_name: Daisy\n",
    "",
    "33:3",
    '"display_name" is missing in models.daisy',
    'Name for people. Add "display_name: ...".',
  ],
  "a key without a value": [
    "output_path: results",
    "output_path:",
    "25:13",
    '"output_path" must be text, but is empty',
    "Folder of the results.",
  ],
  "a key twice": [
    "task_batch_size: 8",
    "task_batch_size: 8\nparallel_tasks: 8",
    "18:1",
    'duplicate key "parallel_tasks"',
    /stands in line 16 already/,
  ],
  "a time limit without quotes": [
    '"12:00:00"',
    "12:00:00",
    "8:13",
    '"time_limit" became the number 43200, since YAML 1.1 reads 12:00:00 as a number to the base 60',
    'Put it in quotes: "12:00:00".',
  ],
  "a time limit that is none": [
    '"12:00:00"',
    "12h",
    "8:13",
    '"time_limit" must be a time limit: M, M:S, H:M:S, D-H, D-H:M, D-H:M:S or 0, not "12h"',
    /^Slurm time limit, in quotes/,
  ],
  "a number where text is expected": [
    '"gpu:4"',
    "4",
    "7:16",
    '"gres_per_node" must be text, not a number',
    'Put it in quotes: "4".',
  ],
  "text where a number is expected": [
    "parallel_tasks: 4",
    "parallel_tasks: four",
    "16:17",
    '"parallel_tasks" must be a whole number of at least 1, not "four"',
    "Batches evaluated at a time in a job.",
  ],
  "a number that is too small": [
    "cpus_per_node: 16",
    "cpus_per_node: 0",
    "6:16",
    '"cpus_per_node" must be a whole number of at least 1, not 0',
    /^CPUs per node/,
  ],
  "a number with an exponent": [
    "4_194_304",
    "4e6",
    "32:23",
    '"train_batch_size" must be a whole number of at least 0, not "4e6"',
    "YAML 1.1 reads an exponent without a sign as text: write 4000000.",
  ],
  "tokens with a suffix that is none": [
    "15T",
    "15 tera",
    "36:21",
    /^"tokens_trained" must be a whole number of tokens, or text such as "100B", .* not "15 tera"$/,
    /^Tokens seen in training, e\.g\. "100B"/,
  ],
  "a list of tokens of another length": [
    "train_batch_size: 4_194_304",
    "tokens_trained: [1B]",
    "32:5",
    '"tokens_trained" has 1 items, "steps" has 2',
    /^Give one number of tokens for each step/,
  ],
  "steps without a pattern": [
    '    checkpoint_pattern: "step_{step}"\n',
    "",
    "30:5",
    '"steps" needs checkpoint_pattern',
    /e\.g\. checkpoint_pattern: "step_\{step\}"/,
  ],
  "a step that is no number": [
    "2000]",
    "last]",
    "31:19",
    'item 2 of "steps" must be a whole number of at least 0, not "last"',
    "Training step.",
  ],
  "a pattern without {step}": [
    "step_{step}",
    "step_*",
    "30:25",
    '"checkpoint_pattern" must hold {step} once',
    /\{step\} stands for digits/,
  ],
  "a pattern without quotes": [
    '"step_{step}"',
    "{step}",
    "30:25",
    '"checkpoint_pattern" must be text, not a map',
    'Text that begins with "{" or "[" needs quotes.',
  ],
  "text where a list is expected": [
    "[arc_easy, hellaswag]",
    "arc_easy",
    "19:21",
    '"suites_and_tasks" must be a list, not "arc_easy"',
    'Write [arc_easy], or one line "- arc_easy" below it.',
  ],
  "no task at all": [
    "[arc_easy, hellaswag]",
    "[]",
    "19:21",
    '"suites_and_tasks" must not be empty',
    "What to evaluate: lm_eval tasks, groups and tags.",
  ],
  "a list where a map is expected": [
    "  HF_HOME:",
    "  - HF_HOME:",
    "12:3",
    '"env_vars" must be a map, not a list',
    'Write "NAME: ..." instead of "- ...".',
  ],
  "a name that is none": [
    "  HF_HOME:",
    "  HF-HOME:",
    "12:3",
    '"HF-HOME" is no name for an environment variable',
    "Letters, digits and underscores, and no digit at the start.",
  ],
  "an sbatch option that eval-hive sets": [
    "  mem: 64G",
    '  --gres: "gpu:4"',
    "10:3",
    '"--gres" is set by eval-hive',
    "Use gres_per_node.",
  ],
  "an sbatch option in its short form": [
    "  mem: 64G",
    "  -p: gpu",
    "10:3",
    '"-p" is no sbatch option',
    "Long names only, e.g. mem or --mem.",
  ],
  "an argument of lm_eval that has a key of its own": [
    "    model: local-completions",
    "    tasks: arc_easy",
    "24:5",
    '"tasks" is set by eval-hive',
    "Use eval.suites_and_tasks.",
  ],
  "several servers without a command": [
    /inference_server_command: >-\n.*\n/.exec(good)?.[0] ?? "",
    "",
    "13:24",
    '"num_inference_servers" above 1 needs inference_server_command',
    /^Without a server, lm_eval loads the model itself/,
  ],
  "half an environment": [
    "num_inference_servers: 2",
    "pixi_env: eval",
    "15:1",
    '"pixi_env" needs pixi_manifest',
    'Add "pixi_manifest: ...", or leave both out.',
  ],
  "a choice that there is not": [
    "task_batch_size: 8",
    "offline: alway",
    "17:10",
    '"offline" must be one of auto, always, never, not "alway"',
    'Did you mean "always"?',
  ],
  "a model key that leaves the results": [
    "  daisy:",
    "  ../daisy:",
    "33:3",
    '"../daisy" leaves output_path: no "..", no empty part',
    "Choose another key, or set model_key.",
  ],
  "a model named by a number": [
    "  daisy:",
    "  70:",
    "33:3",
    "key 70 is a number, not text",
    'Put it in quotes: "70".',
  ],
  "an empty path": [
    "path: flower-lab/daisy",
    'path: ""',
    "34:11",
    '"path" must not be empty',
    /^Directory of the model/,
  ],
  "an anchor that there is not": [
    "  daisy:\n",
    "  daisy:\n    <<: *base\n",
    "34:9",
    'unknown anchor "base"',
    "An anchor (&name) must stand above the alias (*name) that uses it.",
  ],
  "a tab": ["  mem: 64G", "\tmem: 64G", "10:1", /a tab indents this line/, "Indent with blanks."],
  "a key that is not aligned": [
    "    display_name: Daisy",
    "   display_name: Daisy",
    "35:4",
    /all mapping items must start at the same column/,
    "Keys of one block start in the same column.",
  ],
  "a quote that is not closed": [
    'gres_per_node: "gpu:4"',
    "gres_per_node: 'gpu:4",
    "7:16",
    "this quote is not closed",
    "Add the second '.",
  ],
  "a bracket that is not closed": [
    "[arc_easy, hellaswag]",
    "[arc_easy, hellaswag",
    "20:3",
    /"\]" is missing here/,
    /^Close the "\["/,
  ],
  "a colon in plain text": [
    "display_name: Daisy",
    "display_name: Daisy: the flower",
    "35:19",
    /a second ": " in one line/,
    'Put text that holds ": " in quotes.',
  ],
  "a line without a colon": [
    "account: nlp",
    "account nlp",
    "4:1",
    /this line is no "key: value"/,
    /^Each line of a block is "key: value"/,
  ],
  "a second document": [
    "models:\n",
    "---\nmodels:\n",
    "26:1",
    /the file holds more than one document/,
    'Leave out the line "---", or make two files.',
  ],
};

function assertMatches(actual: string | undefined, expected: string | RegExp): void {
  if (typeof expected === "string") assert.equal(actual, expected);
  else assert.match(actual ?? "", expected);
}

describe("a broken config", () => {
  test("is broken by its mistake alone: without it, the config has no mistake and no warning", () => {
    assert.deepEqual(parseConfig("c.yaml", good).warnings, []);
    assert.ok(Object.keys(rows).length >= 40);
  });

  for (const [name, [from, to, place, message, wayOut]] of Object.entries(rows)) {
    test(`tells ${name}, once, at its place, with the way out`, () => {
      assert.equal(good.split(from).length, 2, `"${from}" stands once in the good config`);
      const text = good.replace(from, () => to);
      assert.throws(
        () => parseConfig("c.yaml", text),
        (error: unknown) => {
          assert.ok(error instanceof ConfigError, String(error));
          assert.equal(error.exitCode, 2);
          const told = error.issues.map(renderIssue).join("\n");
          assert.equal(error.issues.length, 1, told);
          const [issue] = error.issues;
          assert.equal(`${issue?.line}:${issue?.column}`, place, told);
          assertMatches(issue?.message, message);
          assertMatches(issue?.hint, wayOut);
          assert.match(
            error.message,
            /^Cannot use config "c\.yaml": 1 mistake\n\nc\.yaml:\d+:\d+: /,
          );
          return true;
        },
      );
    });
  }

  test("tells what is wrong in each value of a key that stands there again", () => {
    const entry = (tokens: string) =>
      `  e: {path: /e, display_name: E, tokens_trained: ${tokens}}\n`;
    const text = `output_path: o\neval: {suites_and_tasks: [t]}\nmodels:\n${entry('"1.5e12"')}${entry("[]")}${entry("1B")}${entry("-1")}`;
    assert.throws(
      () => parseConfig("c.yaml", text),
      (error: unknown) => {
        assert.ok(error instanceof ConfigError);
        assert.deepEqual(
          error.issues.map(({ line, path, message }) => `${line} ${path || message}`),
          [
            "4 models.e.tokens_trained",
            '5 duplicate key "e"',
            "5 models.e.tokens_trained",
            '6 duplicate key "e"',
            '7 duplicate key "e"',
            "7 models.e.tokens_trained",
          ],
        );
        return true;
      },
    );
  });

  test("tells all of several mistakes at once, in the order of the file", () => {
    const all = Object.values(rows).filter(([, , , message]) => typeof message === "string");
    let text = good;
    let applied = 0;
    for (const [from, to] of all) {
      if (from === "" || text.split(from).length !== 2) continue;
      text = text.replace(from, () => to);
      applied += 1;
    }
    assert.throws(
      () => parseConfig("c.yaml", text),
      (error: unknown) => {
        assert.ok(error instanceof ConfigError);
        const lines = error.issues.map(({ line, column }) => line * 1_000 + column);
        assert.deepEqual(
          lines,
          [...lines].sort((a, b) => a - b),
        );
        assert.ok(applied > 15, `${applied} mistakes made`);
        assert.ok(error.issues.length >= applied - 5, `${error.issues.length} of ${applied} told`);
        return true;
      },
    );
  });
});
