import assert from "node:assert/strict";
import { readdir, readFile } from "node:fs/promises";
import { tmpdir, userInfo } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { parsePythonJson } from "../../src/base/json.ts";
import { type ChildGroup, runToEnd, startGroup } from "../../src/base/spawn.ts";
import { type Harness, type RunMessage, startHarness } from "../../src/lmeval/harness.ts";
import type { Evaluation, RunLeaf, RunRequest } from "../../src/lmeval/protocol.ts";
import { root } from "./require.ts";

export const evalTasks = join(root, "test/fixtures/eval-tasks");
/** Python modules as a user would install them; for PYTHONPATH. */
export const plugins = join(root, "test/fixtures/plugins");

/** A completions server without a model (completions-server.ts), at a port of its own choice. */
export async function startCompletionsServer(
  flags: readonly string[] = [],
): Promise<{ readonly port: number; readonly child: ChildGroup } & AsyncDisposable> {
  const child = await startGroup(
    process.execPath,
    [join(root, "test/support/completions-server.ts"), "--port", "0", ...flags],
    { env: { PATH: process.env["PATH"] }, stdout: "pipe", stderr: "ignore" },
  );
  assert(child.stdout !== undefined);
  for await (const line of createInterface({ input: child.stdout })) {
    const { port } = JSON.parse(line) as { port: number };
    return {
      port,
      child,
      [Symbol.asyncDispose]: async () => {
        await child.stop({ graceMs: 1_000 });
      },
    };
  }
  throw new Error("The completions server did not start");
}

/** Where the harnesses of all tests keep what importing transformers takes a second to find out; it checks itself. */
const importCache = join(tmpdir(), `eval-hive-test-imports-${userInfo().uid}`);

/** No network, no user's settings; `home` holds all that lm_eval and Hugging Face's libraries keep. */
export function offlineEnvironment(home: string): NodeJS.ProcessEnv {
  return {
    PATH: process.env["PATH"],
    // Servers of tests are TypeScript: half of their start is its compilation.
    NODE_COMPILE_CACHE: process.env["NODE_COMPILE_CACHE"],
    HOME: home,
    HF_HOME: join(home, "huggingface"),
    LM_HARNESS_CACHE_PATH: join(home, "lm-eval-cache"),
    HF_HUB_OFFLINE: "1",
    HF_DATASETS_OFFLINE: "1",
    TRANSFORMERS_OFFLINE: "1",
    EVAL_HIVE_IMPORT_CACHE: importCache,
    HF_EVALUATE_OFFLINE: "1",
  };
}

export async function startTestHarness(
  python: string,
  home: string,
  env: NodeJS.ProcessEnv = {},
  /** Between Python and its arguments. */
  words: readonly string[] = [],
): Promise<Harness> {
  return await startHarness({
    argv: [python, ...words],
    harnessDirectory: join(root, "harness"),
    env: { ...offlineEnvironment(home), ...env },
    cwd: evalTasks,
    startTimeoutMs: 300_000,
  });
}

/** Arguments for a completions server at EH_PORT, whose tokenizer lies at EH_MODEL_PATH. */
export function completionsEvaluation(
  changes: { model_args?: Record<string, unknown>; lm_eval_args?: Record<string, unknown> } = {},
): Evaluation {
  return {
    model_args: {
      model: "${EH_MODEL_PATH}",
      base_url: "http://127.0.0.1:${EH_PORT}/v1/completions",
      num_concurrent: 4,
      ...changes.model_args,
    },
    lm_eval_args: { model: "local-completions", log_samples: true, ...changes.lm_eval_args },
  };
}

/** The leaves of these suites as a run request wants them, by id. */
export async function planLeaves(
  harness: Harness,
  suites: readonly string[],
  evaluation: Evaluation,
  cacheDirectory: string,
): Promise<Record<string, RunLeaf>> {
  const planned = await harness.plan({
    suites,
    include_path: evalTasks,
    cache_dir: cacheDirectory,
    evaluations: { default: evaluation },
  });
  assert.deepEqual(planned.unknown, []);
  const fingerprints = planned.evaluations["default"]?.fingerprints ?? {};
  return Object.fromEntries(
    planned.leaves.map(({ id, name, source, overrides }) => {
      const fingerprint = fingerprints[id];
      assert(fingerprint !== undefined);
      return [id, { id, name, source, overrides, fingerprint }];
    }),
  );
}

export type RunSettings = Omit<RunRequest, "type" | "id">;

/** A run request with everything that a test need not say. */
export function runSettings(
  directory: string,
  leaves: readonly RunLeaf[],
  given: Partial<RunSettings> = {},
): RunSettings {
  return {
    leaves,
    evaluation: completionsEvaluation(),
    env: {},
    base_url_prefix: null,
    request_timeout_s: 60,
    request_retries: 1,
    phase_timeout_s: 7_200,
    held: false,
    engine: "fast",
    output_dir: join(directory, "results"),
    owner: "test-owner",
    record: { run: "test" },
    log_file: join(directory, "logs/child.log"),
    cwd: evalTasks,
    resident: null,
    ...given,
  };
}

/** Runs a batch to its end. */
export async function runBatch(harness: Harness, settings: RunSettings) {
  const messages: RunMessage[] = [];
  const ended = await harness.run(settings, (message) => messages.push(message)).ended;
  return { messages, ended };
}

/** The messages of one kind, in order. */
export function ofType<T extends RunMessage["type"]>(messages: readonly RunMessage[], type: T) {
  return messages.filter(
    (message): message is Extract<RunMessage, { type: T }> => message.type === type,
  );
}

/** One call of `lm_eval run`. */
export interface PlainJob {
  readonly task: string;
  readonly include_path: string;
  /** A command line without --tasks and --output_path. */
  readonly arguments: readonly string[];
}

export interface PlainRun<Name extends string> {
  readonly python: string;
  readonly jobs: Readonly<Record<Name, PlainJob>>;
  /** Gets a directory per job. */
  readonly output: string;
  readonly cwd?: string;
  readonly env: NodeJS.ProcessEnv;
}

/** What plain lm_eval writes for each job: results and samples, by the job's name. */
export async function runPlainLmEval<Name extends string>(
  run: PlainRun<Name>,
): Promise<Record<Name, LeafResult>> {
  const names = Object.keys(run.jobs) as Name[];
  const jobs = names.map((name) => ({ ...run.jobs[name], output: join(run.output, name) }));
  const script = join(root, "test/support/plain-lm-eval.py");
  const done = await runToEnd(run.python, ["-B", script, JSON.stringify(jobs)], {
    cwd: run.cwd ?? evalTasks,
    env: run.env,
  });
  assert.equal(done.code, 0, done.stderr.slice(-3_000));
  const results = {} as Record<Name, LeafResult>;
  for (const name of names) results[name] = await readPlainResult(join(run.output, name));
  return results;
}

export interface LeafResult {
  readonly result: Record<string, unknown>;
  readonly samples: unknown[] | undefined;
}

/** The one result below a directory that lm_eval was given as --output_path. */
export async function readPlainResult(directory: string): Promise<LeafResult> {
  const files = await readdir(directory, { recursive: true });
  const [result] = files.filter((file) => /(^|\/)results_[^/]*\.json$/.test(file));
  const [samples] = files.filter((file) => /(^|\/)samples_[^/]*\.jsonl$/.test(file));
  assert(result !== undefined, `no result in ${directory}: ${files.join(", ")}`);
  return await readResult(
    join(directory, result),
    samples === undefined ? undefined : join(directory, samples),
  );
}

export async function readResult(path: string, samplesPath?: string): Promise<LeafResult> {
  const result = parsePythonJson(await readFile(path, "utf8")) as Record<string, unknown>;
  if (samplesPath === undefined) return { result, samples: undefined };
  const lines = (await readFile(samplesPath, "utf8")).trimEnd().split("\n");
  return { result, samples: lines.map((line) => parsePythonJson(line)) };
}

const exempt = [
  "date",
  "total_evaluation_time_seconds",
  "git_hash",
  "upper_git_hash",
  "pretty_env_info",
  "eval_hive",
];

/** All that decides about an evaluation: without dates, durations, the machine, and our own block. */
export function comparable({ result, samples }: LeafResult): unknown {
  const kept = Object.fromEntries(Object.entries(result).filter(([key]) => !exempt.includes(key)));
  // Functions are printed with their address.
  const text = JSON.stringify({ kept, samples }, (_key, value: unknown) =>
    typeof value === "number" && !Number.isFinite(value) ? `number ${value}` : value,
  );
  return JSON.parse(text.replaceAll(/ at 0x[0-9a-f]+/g, ""));
}
