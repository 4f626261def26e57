import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readdir, readFile, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { callIn, evalHive, launcher, startEvalHive } from "../support/eval-hive.ts";
import { processesOfRun } from "../support/processes.ts";
import { runReadOnly } from "../support/read-only.ts";
import { requirePython } from "../support/require.ts";
import { readScores, type StoredRow } from "../support/scores.ts";
import { awaitHeld, makeSmallPlace } from "../support/small-run.ts";
import { leafAt, makeSyntheticRun, unitAt } from "../support/synthetic-run.ts";
import { temporaryDirectory } from "../support/temporary.ts";
import { writeByteTokenizer } from "../support/tokenizer.ts";

/** Columns without a value in this run, each for a reason. What else is empty was forgotten somewhere on its way. */
const emptyHere = [
  // No training series.
  ...["step", "train_batch_size", "tokens_trained"],
  // No group.
  ...["parent_task", "subtask_tree"],
];

/** The columns of eval-hive 0.1, in its order and with its types, as Arrow names them. */
const columns: readonly (readonly [name: string, type: string])[] = [
  ["model", "string"],
  ["step", "int64"],
  ["task", "string"],
  ["metric", "string"],
  ["metric_filter", "string"],
  ["score", "double"],
  ["score_stderr", "double"],
  ["task_type", "string"],
  ["parent_task", "string"],
  ["task_display_name", "string"],
  ["num_fewshot", "int64"],
  ["task_formulation", "string"],
  ["higher_is_better", "bool"],
  ["language", "string"],
  ["n_samples", "int64"],
  ["subtask_tree", "string"],
  ["train_batch_size", "int64"],
  ["tokens_trained", "int64"],
  ["eval_date", "string"],
  ["result_source", "string"],
  [
    "eval_config",
    "struct<lm_eval_version: string, git_hash: string, transformers_version: string, model_name: string, model_source: string, max_length: int64, total_eval_time_seconds: double, tokenizer_pad_token: string, tokenizer_eos_token: string, tokenizer_bos_token: string, eot_token_id: int64, chat_template: string, chat_template_sha: string, system_instruction: string, system_instruction_sha: string>",
  ],
  [
    "task_config",
    "struct<task_version: string, task_hash: string, dataset_path: string, output_type: string, dataset_name: string, repeats: int64, doc_to_text: string, doc_to_target: string, doc_to_choice: string, generation_kwargs: string, should_decontaminate: bool>",
  ],
  ["model_path", "string"],
  ["is_checkpoint", "bool"],
  ["model_display_name", "string"],
];

/** As a part of the paths that requests have. */
const balancerToken = /\/eh\/[0-9a-f]{16,}/;

/** Its continuation is merged into the last token of the context: no token is left to score. */
const merged = {
  "merged.yaml": `include: _mc_base
task: merged
doc_to_text: "{{q}}#"
doc_to_choice: ["#", "##"]
target_delimiter: ""
`,
};

test("status and collect tell of a run while it goes on, and of what has become of it", async (t) => {
  const python = requirePython(t);
  if (python === undefined) return;
  const server = join(import.meta.dirname, "../support/completions-server.ts");
  await using place = await makeSmallPlace({
    leaves: 2,
    suites: ["ev_missing_module", "merged"],
    taskFiles: merged,
    units: 2,
    serverCommand: `test "$EH_MODEL_KEY" = small-0 || { echo "no such weights"; exit 7; }; exec "${process.execPath}" "${server}" --model another`,
  });
  await writeByteTokenizer(join(place.root, "models/small-0"), { merges: [["#", "#"]] });
  const call = callIn(place, python);
  const { layout } = place;
  const scores = join(layout.directory, "scores.parquet");
  await place.hold();
  await using run = await startEvalHive(["run", place.configFile, "-o", layout.directory], call);
  await awaitHeld(layout, 2);

  await t.test("while it goes on: what is at hand, and that it goes on by itself", async () => {
    const json = await evalHive(["status", layout.directory, "--json"], call);
    assert.equal(json.code, 0, json.stderr);
    const { leaves, units, agents, next, unit_states } = JSON.parse(json.stdout);
    assert.deepEqual([leaves.done, leaves.running], [0, 2]);
    assert.deepEqual([units[0].state, units[1].state], ["running", "not_started"]);
    assert.deepEqual([unit_states.running, agents.length, agents[0].state], [1, 1, "running"]);
    assert.deepEqual(next.command, ["status", layout.directory]);
    const text = await evalHive(["status", layout.directory], call);
    assert.match(
      text.stdout,
      /^Running now:\n {2}process \d+ on \S+, job local, 2 slots, 1 server/m,
    );
    assert.match(text.stdout, /slot 0 +small-0--main +small_0[01] +requests +0\/16/);

    const collected = await evalHive(["collect", layout.directory, "--json"], call);
    const answer = JSON.parse(collected.stdout);
    assert.deepEqual([collected.code, answer.complete, answer.rows], [4, false, 0]);
  });

  await t.test("no command line and no environment holds the balancer's token", async () => {
    const processes = await processesOfRun(place.root);
    assert.ok(processes.some(({ role }) => role === "harness child"));
    for (const { pid, role } of processes) {
      for (const file of ["cmdline", "environ"]) {
        const text = await readFile(`/proc/${pid}/${file}`, "latin1").catch(() => "");
        assert.doesNotMatch(text, balancerToken, `${file} of ${role}`);
      }
    }
  });

  await place.letGo();
  assert.deepEqual(await run.ended, { code: 4, signal: undefined }, run.stderr());

  await t.test("no log, event or result holds the balancer's token", async () => {
    assert.doesNotMatch(run.stdout() + run.stderr(), balancerToken);
    for (const directory of [layout.directory, place.results]) {
      for (const entry of await readdir(directory, { recursive: true, withFileTypes: true })) {
        const path = join(entry.parentPath, entry.name);
        if (entry.isFile())
          assert.doesNotMatch(await readFile(path, "latin1"), balancerToken, path);
      }
    }
  });

  await t.test("run ends with 4 and says why, and what is next", async () => {
    assert.match(run.stdout(), /^2 of 8 leaves done$/m);
    assert.match(run.stdout(), /^small-1--main was given up: .*exit code 7.*no such weights$/m);
    assert.match(
      run.stdout(),
      /^small-0--main: dead: ev_missing_module: .*a_module_that_nobody_has/m,
    );
    assert.match(run.stdout(), /^small-0--main: invalid: merged: /m);
    assert.match(run.stdout(), /^next: eval-hive status /m);
    const failed = (await readFile(layout.failedUnits, "utf8")).split("\n");
    assert.match(failed[0] ?? "", /^small-0--main .* eval_failures local 2 of 4 leaves done/);
    assert.match(failed[1] ?? "", /^small-1--main .* server_startup_failed local .*exit code 7/);
  });

  const oddity =
    /^ *small-0--main on \S+: warning: requests ask for model ".*small-0" .*names "another"$/m;
  await t.test("all tell that the server calls its model otherwise", async () => {
    assert.match(run.stdout(), oddity);
    const { stdout } = await evalHive(["status", layout.directory, "--detailed"], call);
    assert.match(stdout, /^Servers:$/m);
    assert.match(stdout, oddity);
    // Two leaves of 4 questions with 4 answers each, and what the others asked.
    assert.match(stdout, /^ {2}server 0 +\S+, job local +(3[2-9]|[4-9]\d) answered +.* prompt/m);
    const collected = await evalHive(["collect", layout.directory, "--json"], call);
    const { warnings } = JSON.parse(collected.stdout);
    assert.match(warnings[0], oddity);
  });

  const status = async () => (await evalHive(["status", layout.directory], call)).stdout;
  const told = await status();

  await t.test("status says what is dead, invalid and given up, why, and what to do", async () => {
    const row = "small-0--main +failed +█{10}░{10} +50 % +2/4 +1 +1 +- +-";
    assert.match(told, new RegExp(`^${row}$`, "m"));
    assert.match(told, /small-1--main was given up: server-start: .*no such weights/);
    assert.match(told, /small-0--main: dead: ev_missing_module: .*a_module_that_nobody_has/);
    assert.match(
      told,
      /small-0--main: invalid: merged: .*the tokenizer merges them into the prompt/,
    );
    assert.match(
      told,
      new RegExp(`Next: nobody is at it; go on with\n  eval-hive run ${layout.directory}$`),
    );
    const json = await evalHive(["status", layout.directory, "--json", "--detailed"], call);
    const { units, problems, leaves } = JSON.parse(json.stdout);
    assert.deepEqual(
      problems.map(({ kind }: { kind: string }) => kind),
      ["stopped", "dead", "invalid"],
    );
    assert.deepEqual(leaves, { total: 8, done: 2, invalid: 1, dead: 1, open: 4, running: 0 });
    assert.deepEqual(units[0].leaf_states, {
      small_00: "done",
      small_01: "done",
      ev_missing_module: "dead",
      merged: "invalid",
    });
  });

  await t.test("collect leaves out what has no valid result, and names it", async () => {
    const collected = await evalHive(["collect", layout.directory], call);
    assert.equal(collected.code, 4, collected.stderr);
    assert.match(
      collected.stdout,
      /small-0--main: 2 of 4; missing ev_missing_module; invalid merged$/m,
    );
    assert.match(
      collected.stdout,
      /^4 rows from 2 of 8 leaves, 5 missing, 1 invalid; 0 of 2 units/m,
    );
    const again = await evalHive(["collect", layout.directory], call);
    assert.match(again.stdout, /^Nothing changed against the old file$/m);
  });

  await t.test(
    "the table has the columns of eval-hive 0.1 first, and the values of the leaf files",
    async () => {
      const schema = execFileSync(
        python,
        [
          "-c",
          "import json, sys, pyarrow.parquet as p; print(json.dumps([[f.name, str(f.type), f.nullable] for f in p.read_schema(sys.argv[1])]))",
          scores,
        ],
        { encoding: "utf8" },
      );
      const found = JSON.parse(schema) as [string, string, boolean][];
      assert.deepEqual(
        found.slice(0, columns.length),
        columns.map((column) => [...column, true]),
      );
      const rows = await readScores(scores);
      assert.deepEqual(
        rows.map(({ task, metric }) => `${task} ${metric}`),
        ["small_00 acc", "small_00 acc_norm", "small_01 acc", "small_01 acc_norm"],
      );
      await assertRow(rows[0] as StoredRow, join(place.results, "small-0/main/eval-hive"));
      const empty = found
        .map(([name]) => name)
        .filter((name) => rows.every((row) => row[name] === null));
      assert.deepEqual(new Set(empty), new Set(emptyHere));
      const values = execFileSync(
        python,
        [
          "-c",
          "import json, sys, pyarrow.parquet as p; print(json.dumps([[r['task'], r['metric'], r['score']] for r in p.read_table(sys.argv[1]).to_pylist()]))",
          scores,
        ],
        { encoding: "utf8" },
      );
      assert.deepEqual(
        JSON.parse(values),
        rows.map(({ task, metric, score }) => [task, metric, score]),
      );
    },
  );

  await t.test("both work where nothing can be written", async () => {
    const output = join(place.root, "elsewhere.parquet");
    const read = async (...args: string[]) =>
      await runReadOnly(layout.directory, [launcher, ...args], call);
    const seen = await read("status", layout.directory);
    assert.deepEqual([seen.code, seen.stdout], [0, told], seen.stderr);
    const collected = await read("collect", layout.directory, "-o", output);
    assert.equal(collected.code, 4, collected.stderr);
    assert.deepEqual(await readScores(output), await readScores(scores));
    const refused = await read("collect", layout.directory, "--json");
    assert.equal(refused.code, 3);
    assert.equal(JSON.parse(refused.stdout).error.code, "results.write");
  });

  await t.test("status opens no result file", async () => {
    const directory = join(place.results, "small-0/main/eval-hive");
    for (const name of await readdir(directory)) {
      // Whoever opens a pipe waits for its other end.
      await rename(join(directory, name), join(directory, `${name}.kept`));
      execFileSync("sh", ["-c", 'mkfifo "$1"', "sh", join(directory, name)]);
      await rm(join(directory, `${name}.kept`));
    }
    assert.equal(await status(), told);
  });
});

/** Holds a row of the table against the leaf file that it names. */
async function assertRow(row: StoredRow, directory: string): Promise<void> {
  const source = row["result_source"] as string;
  assert(source.startsWith(`${directory}/results_small_00.`));
  const file = JSON.parse(await readFile(source, "utf8"));
  const result = file.results.small_00;
  assert.deepEqual(
    [row["score"], row["score_stderr"], row["n_samples"]],
    [result["acc,none"], result["acc_stderr,none"], 4n],
  );
  assert.deepEqual(
    [row["model"], row["step"], row["model_path"], row["model_display_name"]],
    ["small-0", null, join(directory, "../../../../models/small-0"), "Small 0"],
  );
  assert.deepEqual(
    [row["metric_filter"], row["task_type"], row["task_formulation"], row["is_checkpoint"]],
    ["none", "benchmark", "rank_choice", false],
  );
  const seconds = new Date(file.date * 1000).toISOString().slice(0, 19);
  assert.match(row["eval_date"] as string, new RegExp(`^${seconds}(\\.\\d{6})?\\+00:00$`));
  const { fingerprint, run_id, server_command_sha256 } = file.eval_hive;
  assert.match(server_command_sha256, /^[0-9a-f]{64}$/);
  assert.match(run_id, /^[0-9a-f]{16}$/);
  assert.deepEqual([row["fingerprint"], row["run_id"]], [fingerprint, run_id]);
  const { lm_eval_version } = row["eval_config"] as Record<string, unknown>;
  assert.equal(lm_eval_version, file.lm_eval_version);
}

test("almost all is not all: 999 of 1000 leaves are 99 %, and the bar is not full", async () => {
  await using directory = await temporaryDirectory();
  const run = await makeSyntheticRun({ directory: directory.path, units: 1, leaves: 1000 });
  await run.settle(
    unitAt(0),
    Array.from({ length: 999 }, (_, n) => leafAt(n)),
  );
  const call = { cwd: directory.path, env: { ...process.env, HOME: directory.path } };
  const { stdout } = await evalHive(["status", run.layout.directory, "--detailed"], call);
  assert.match(stdout, /█{19}░ +99 % +999\/1,000/);
  assert.match(stdout, /999 of 1,000 leaves done \(99 %\)/);
  assert.doesNotMatch(stdout.replace(/first_half.*/, ""), /100 %|█{20}/);
});
