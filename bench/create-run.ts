/** `npm run bench -- create-run`: `--help`, and `create-run` of 500 checkpoints × 2,000 tasks, with the index of the tasks warm. */
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { summarize } from "./support/repeats.ts";
import { keepResult } from "./support/result.ts";
import { type CommandCost, timeCommand } from "./support/timed-command.ts";

const cli = join(import.meta.dirname, "../bin/eval-hive");
const units = 500;
const leaves = 2_000;
const repeats = 5;

function taskYaml(n: number): string {
  return [
    `task: bench_${n}`,
    "tag: bench_all",
    "dataset_path: json",
    "dataset_kwargs: {data_files: {test: data.jsonl}}",
    "test_split: test",
    "output_type: multiple_choice",
    `doc_to_text: "Question ${n}: {{question}}"`,
    "doc_to_choice: choices",
    "doc_to_target: label",
    "metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]",
    "metadata: {version: 1}",
    "",
  ].join("\n");
}

async function writeConfig(directory: string): Promise<string> {
  const tasks = join(directory, "tasks");
  await mkdir(tasks);
  for (let n = 0; n < leaves; n++) await writeFile(join(tasks, `bench_${n}.yaml`), taskYaml(n));
  const models = join(directory, "models");
  for (let n = 0; n < units; n++) await mkdir(join(models, `step_${n}`), { recursive: true });
  const config = {
    models: {
      model: {
        path: models,
        display_name: "Model",
        checkpoint_pattern: "step_{step}",
        train_batch_size: 1,
      },
    },
    inference_server_command: "serve",
    eval: {
      eval_suite_path: tasks,
      suites_and_tasks: ["bench_all"],
      model_args: { model: "${EH_MODEL_PATH}" },
      lm_eval_args: { model: "local-completions" },
    },
    output_path: join(directory, "results"),
  };
  const file = join(directory, "eh_config.yaml");
  await writeFile(file, JSON.stringify(config));
  return file;
}

const directory = await mkdtemp(join(tmpdir(), "eval-hive-bench-"));
try {
  const config = await writeConfig(directory);
  const env = { ...process.env, XDG_CACHE_HOME: join(directory, "cache") };
  const help: CommandCost[] = [];
  const created: CommandCost[] = [];
  // In a row, before the disk has anything to do.
  for (let round = 0; round < 4 * repeats; round++) {
    help.push(await timeCommand(cli, ["--help"], { env }));
  }
  for (let round = 0; round < repeats + 2; round++) {
    const run = join(directory, `run-${round}`);
    created.push(await timeCommand(cli, ["create-run", "-c", config, "-o", run], { env }));
  }
  // The first one has built the index, the second has read again what had been written only a moment before that.
  const warm = created.slice(2);
  await keepResult("create-run", {
    units,
    leaves,
    help_cpu_s: summarize(help.map(({ cpu_s }) => cpu_s)),
    create_run_s: summarize(warm.map(({ wall_s }) => wall_s)),
    create_run_cpu_s: summarize(warm.map(({ cpu_s }) => cpu_s)),
    raw: { help, created },
  });
} finally {
  await rm(directory, { recursive: true, force: true });
}
