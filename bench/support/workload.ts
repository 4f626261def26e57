/** Tasks over local data, planned into a run behind the paced server, and what the run was seen to do. */
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdir, readdir, readFile, stat, writeFile } from "node:fs/promises";
import { tmpdir, userInfo } from "node:os";
import { join } from "node:path";
import { writeByteTokenizer } from "../../test/support/tokenizer.ts";
import { compile } from "./compile.ts";

const root = join(import.meta.dirname, "../..");
const cli = join(root, "bin/eval-hive");

/** `choice` has four answers, and a prompt for each. */
type Kind = "choice" | "generate" | "answer" | "rolling";

/** What there is to do for a unit. */
export interface Shape {
  /** How many tasks of each kind; each is a batch. */
  readonly tasks: Readonly<Partial<Record<Kind, number>>>;
  /** Of each task. */
  readonly documents: number;
  /** What the server takes for a prompt. */
  readonly promptMs: number;
}

/** 24 tasks with 3,300 prompts. */
export const workloadW: Shape = {
  tasks: { choice: 14, generate: 4, answer: 3, rolling: 3 },
  documents: 50,
  promptMs: 20,
};

/** Prompts that the server works on at the same time. */
const width = 16;
/** What the stand-in for loading a model takes. */
const readyAfterMs = 3_000;

function kindsOf({ tasks }: Shape): Kind[] {
  return Object.entries(tasks).flatMap(([kind, n]) => Array<Kind>(n).fill(kind as Kind));
}

/** Prompts of one unit. */
export function promptsOf(shape: Shape): number {
  const each = kindsOf(shape).map((kind) => (kind === "choice" ? 4 : 1) * shape.documents);
  return each.reduce((sum, n) => sum + n, 0);
}

/** What the server alone needs for a unit. */
export function serverBoundS(shape: Shape): number {
  return (promptsOf(shape) * shape.promptMs) / width / 1_000;
}

const common = `dataset_path: json
test_split: test
metadata: {version: 1}
`;

function taskYaml(name: string, kind: Kind, data: string): string {
  const head = `task: ${name}\n${common}dataset_kwargs: {data_files: {test: ${data}}}\n`;
  const metric = (metric: string, aggregation: string, higher: boolean) =>
    `metric_list: [{metric: ${metric}, aggregation: ${aggregation}, higher_is_better: ${higher}}]\n`;
  switch (kind) {
    case "choice":
      return `${head}output_type: multiple_choice\ndoc_to_text: "{{text}}\\nAnswer:"\ndoc_to_choice: choices\ndoc_to_target: label\n${metric("acc", "mean", true)}`;
    case "answer":
      return `${head}output_type: loglikelihood\ndoc_to_text: "{{text}}"\ndoc_to_target: " {{choices[label]}}"\n${metric("acc", "mean", true)}`;
    case "rolling":
      return `${head}output_type: loglikelihood_rolling\ndoc_to_text: ""\ndoc_to_target: "{{text}}"\n${metric("bits_per_byte", "bits_per_byte", false)}`;
    case "generate":
      return `${head}output_type: generate_until\ndoc_to_text: "{{text}}\\nAnswer:"\ndoc_to_target: "{{label}}"\ngeneration_kwargs: {until: ["\\n"], max_gen_toks: 16, do_sample: false, temperature: 0}\n${metric("exact_match", "mean", true)}`;
  }
}

function documentAt(n: number): string {
  const words = Array.from({ length: 45 }, (_, at) => `word${(n * 31 + at * 7) % 997}`);
  const choices = ["red", "green", "blue", "black"].map((colour) => `${colour} ${n % 10}`);
  return JSON.stringify({ text: words.join(" "), choices, label: n % 4 });
}

export interface Workload {
  readonly directory: string;
  readonly run: string;
  readonly env: NodeJS.ProcessEnv;
}

/** Writes config, tasks, data and models, and plans the run. */
export async function planWorkload(
  directory: string,
  options: { readonly shape: Shape; readonly units: number; readonly python: string },
): Promise<Workload> {
  const tasks = join(directory, "tasks");
  await mkdir(tasks, { recursive: true });
  const data = join(tasks, "data.jsonl");
  const { shape } = options;
  const documents = Array.from({ length: shape.documents }, (_, n) => documentAt(n));
  await writeFile(data, documents.join("\n"));
  const kinds = kindsOf(shape);
  const names = kinds.map((kind, n) => `w_${kind}_${String(n).padStart(2, "0")}`);
  for (const [n, kind] of kinds.entries()) {
    const name = names[n] as string;
    await writeFile(join(tasks, `${name}.yaml`), taskYaml(name, kind, data));
  }
  const models: Record<string, object> = {};
  for (let n = 0; n < options.units; n++) {
    const path = join(directory, `model-${n}`);
    await writeByteTokenizer(path);
    models[`model-${n}`] = { path, display_name: `Model ${n}` };
  }
  const server = await compile("paced-server", directory);
  const config = {
    job_name: "bench",
    models,
    harness_command: [options.python],
    inference_server_command: `exec "${server}" --prompt-ms ${shape.promptMs} --width ${width} --ready-after-ms ${readyAfterMs} --tally "${directory}/tally"`,
    parallel_tasks: 4,
    health_check_interval_seconds: 1,
    eval: {
      eval_suite_path: tasks,
      suites_and_tasks: names,
      model_args: {
        model: "${EH_MODEL_PATH}",
        base_url: "http://127.0.0.1:${EH_PORT}/v1/completions",
        num_concurrent: 8,
      },
      lm_eval_args: { model: "local-completions", log_samples: true },
    },
    output_path: join(directory, "results"),
    offline: "always",
  };
  const configFile = join(directory, "eh_config.yaml");
  await writeFile(configFile, JSON.stringify(config));
  const run = join(directory, "run");
  // What is kept between runs is there, as on every day but the first.
  const imports = join(tmpdir(), `eval-hive-bench-imports-${userInfo().uid}`);
  const env = {
    ...process.env,
    HOME: directory,
    HF_HOME: join(directory, "hf"),
    EVAL_HIVE_IMPORT_CACHE: imports,
  };
  const planned = spawnSync(cli, ["create-run", "-c", configFile, "-o", run], {
    env,
    encoding: "utf8",
  });
  if (planned.status !== 0) throw new Error(planned.stderr);
  return { directory, run, env };
}

/** What a run to the end was seen to do. Instants are milliseconds since the epoch, of this machine. */
export interface Seen {
  readonly startedAtMs: number;
  readonly endedAtMs: number;
  /** Last `leaf.done` event. */
  readonly lastResultAtMs: number;
  readonly exitCode: number | null;
}

/** `eval-hive run`, until it ends. @param during is called once it has started */
export async function evaluate(
  { run, env }: Workload,
  during: (pid: number) => Promise<void> = async () => {},
): Promise<Seen> {
  const startedAtMs = Date.now();
  const child = spawn(cli, ["run", run], { env, stdio: ["ignore", "ignore", "pipe"] });
  let said = "";
  child.stderr.on("data", (chunk) => {
    said += chunk;
  });
  const ended = once(child, "close");
  await during(child.pid as number);
  const [exitCode] = (await ended) as [number | null];
  const lastResultAtMs = await lastResult(run);
  if (exitCode !== 0 && exitCode !== 130) throw new Error(`run ended with ${exitCode}: ${said}`);
  return { startedAtMs, endedAtMs: Date.now(), lastResultAtMs, exitCode };
}

async function lastResult(run: string): Promise<number> {
  return Math.max(0, ...(await eventsOf(run, "leaf.done")).map(({ at }) => Date.parse(at)));
}

/** All events of one type, in no order. */
export async function eventsOf(
  run: string,
  type: string,
): Promise<({ readonly at: string } & Readonly<Record<string, unknown>>)[]> {
  const found = [];
  for (const name of await readdir(join(run, "events"))) {
    for (const line of (await readFile(join(run, "events", name), "utf8")).split("\n")) {
      if (line.includes(`"${type}"`)) found.push(JSON.parse(line));
    }
  }
  return found;
}

/** Prompts that servers have answered so far. */
export async function promptsAnswered({ directory }: Workload): Promise<number> {
  return await sizeOf(join(directory, "tally"));
}

/** Prompts that have come to servers so far, some of them twice. */
export async function promptsAsked({ directory }: Workload): Promise<number> {
  return await sizeOf(join(directory, "tally.asked"));
}

async function sizeOf(file: string): Promise<number> {
  return await stat(file).then(
    ({ size }) => size,
    () => 0,
  );
}

/** Instants that servers have noted, of all their lives, in order. */
export async function serverTimes({
  directory,
}: Workload): Promise<{ event: string; at_ms: number }[]> {
  const text = await readFile(join(directory, "tally.times"), "utf8");
  return text
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as { event: string; at_ms: number });
}

/** CPU seconds, user and system, of all harnesses and their children: none of them may have been killed. */
export async function pythonCpuS({ run }: Workload): Promise<number> {
  let sum = 0;
  for (const { cpu_s } of await eventsOf(run, "harness.ended")) sum += Number(cpu_s);
  return sum;
}
