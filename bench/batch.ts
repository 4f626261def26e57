/**
 * `npm run bench -- batch`: what a batch costs besides its requests: from lease to leaf file for a leaf of one document, against a
 * fresh `lm_eval run` of the same leaf, in turn.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { writeByteTokenizer } from "../test/support/tokenizer.ts";
import { compile } from "./support/compile.ts";
import { interleave, summarize } from "./support/repeats.ts";
import { keepResult } from "./support/result.ts";
import { timeCommand } from "./support/timed-command.ts";

const root = join(import.meta.dirname, "..");
const python = process.env["EVAL_HIVE_PYTHON"] ?? "python3";
/** Leaves of a run; the first ones find the harness still importing. */
const leaves = 24;

async function freePort(): Promise<number> {
  const server = createServer();
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  server.close();
  if (address === null || typeof address === "string") throw new TypeError("no port");
  return address.port;
}

const task = (name: string): string =>
  [
    `task: ${name}`,
    "dataset_path: json",
    "dataset_kwargs: {data_files: {test: data.jsonl}}",
    "test_split: test",
    "output_type: multiple_choice",
    'doc_to_text: "{{question}}"',
    "doc_to_choice: choices",
    "doc_to_target: label",
    "metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]",
    "",
  ].join("\n");

async function prepare(
  directory: string,
): Promise<{ tasks: string; model: string; env: NodeJS.ProcessEnv }> {
  const tasks = join(directory, "tasks");
  await mkdir(tasks);
  const document = { question: "Is it?", choices: ["yes", "no"], label: 0 };
  await writeFile(join(tasks, "data.jsonl"), JSON.stringify(document));
  for (let n = 0; n < leaves; n++) await writeFile(join(tasks, `one_${n}.yaml`), task(`one_${n}`));
  const model = join(directory, "model");
  await writeByteTokenizer(model);
  const offline = { HF_HUB_OFFLINE: "1", HF_DATASETS_OFFLINE: "1", TRANSFORMERS_OFFLINE: "1" };
  return {
    tasks,
    model,
    env: { ...process.env, HOME: directory, HF_HOME: join(directory, "hf"), ...offline },
  };
}

/** Median of lease to leaf file, over all leaves but the first ones, of one `eval-hive run` with one slot. */
async function ours(
  directory: string,
  round: number,
  place: Awaited<ReturnType<typeof prepare>>,
): Promise<number> {
  const config = {
    models: { model: { path: place.model, display_name: "Model" } },
    inference_server_command: `exec "${paced}" --prompt-ms 0 --tally "${directory}/tally"`,
    parallel_tasks: 1,
    eval: {
      eval_suite_path: place.tasks,
      suites_and_tasks: Array.from({ length: leaves }, (_, n) => `one_${n}`),
      model_args: {
        model: "${EH_MODEL_PATH}",
        base_url: "http://127.0.0.1:${EH_PORT}/v1/completions",
        num_concurrent: 4,
      },
      lm_eval_args: { model: "local-completions", log_samples: true },
    },
    output_path: join(directory, `results-${round}`),
  };
  const file = join(directory, `config-${round}.yaml`);
  await writeFile(file, JSON.stringify(config));
  const run = join(directory, `run-${round}`);
  await timeCommand(join(root, "bin/eval-hive"), ["run", file, "-o", run], {
    env: place.env,
    cwd: place.tasks,
  });
  const durations: number[] = [];
  for (const name of await readdir(join(run, "events"))) {
    for (const line of (await readFile(join(run, "events", name), "utf8")).split("\n")) {
      if (line.includes('"batch.ended"')) durations.push(JSON.parse(line).duration_s);
    }
  }
  return summarize(durations.slice(2)).median;
}

const directory = await mkdtemp(join(tmpdir(), "eval-hive-bench-"));
const port = await freePort();
const paced = await compile("paced-server", directory);
const server = spawn(
  paced,
  ["--port", `${port}`, "--prompt-ms", "0", "--tally", join(directory, "tally")],
  { stdio: "ignore" },
);
try {
  const place = await prepare(directory);
  await wait(500);
  let round = 0;
  const modelArgs = `model=${place.model},base_url=http://127.0.0.1:${port}/v1/completions,num_concurrent=4,tokenizer_backend=huggingface`;
  const plain = ["-m", "lm_eval", "run", "--model", "local-completions", "--model_args", modelArgs];
  const figures = await interleave(
    {
      batch_s: () => ours(directory, round++, place),
      lm_eval_run_s: async () => {
        const output = join(directory, `plain-${round}`);
        const args = [
          "--tasks",
          "one_0",
          "--include_path",
          place.tasks,
          "--output_path",
          output,
          "--log_samples",
        ];
        return (
          await timeCommand(python, [...plain, ...args], { env: place.env, cwd: place.tasks })
        ).wall_s;
      },
    },
    { repeats: 5, warmUp: false },
  );
  await keepResult("batch", {
    ...figures,
    ratio: Number((figures.lm_eval_run_s.median / figures.batch_s.median).toFixed(1)),
  });
} finally {
  server.kill("SIGKILL");
  await rm(directory, { recursive: true, force: true, maxRetries: 5 });
}
