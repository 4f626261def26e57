/**
 * `npm run bench -- engine`: how fast one slot sends, the engine `fast` against lm_eval's own code. In turn, with 32 requests
 * under way: log-likelihoods of prompts of 600 tokens, with one answer each and with four, against a server that answers at once; 200
 * rolling documents against one that takes 50 ms.
 */
import assert from "node:assert/strict";
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { runToEnd, startGroup } from "../src/base/spawn.ts";
import type { Harness, RunMessage } from "../src/lmeval/harness.ts";
import type { RunLeaf, RunRequest } from "../src/lmeval/protocol.ts";
import {
  completionsEvaluation,
  ofType,
  runSettings,
  startTestHarness,
} from "../test/support/evaluations.ts";
import { temporaryDirectory } from "../test/support/temporary.ts";
import { summarize } from "./support/repeats.ts";
import { keepResult } from "./support/result.ts";

const python = process.env["EVAL_HIVE_PYTHON"] ?? "python3";
const repeats = Number(process.env["BENCH_REPEATS"] ?? 7);
const tokens = 600;
const concurrent = 32;
const evaluation = completionsEvaluation({ model_args: { num_concurrent: concurrent } });
const engines = ["plain", "fast"] as const;

interface Case {
  readonly name: string;
  readonly documents: number;
  /** Prompts of all documents. */
  readonly requests: number;
  readonly serverDelayMs: number;
  readonly task: string;
}

const accuracy = "metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]";
const cases: Case[] = [
  {
    name: "one_answer",
    documents: 800,
    requests: 800,
    serverDelayMs: 0,
    task: `output_type: loglikelihood
doc_to_text: "{{text}}"
doc_to_target: " {{choices[0]}}"
${accuracy}`,
  },
  {
    name: "four_answers",
    documents: 200,
    requests: 800,
    serverDelayMs: 0,
    task: `output_type: multiple_choice
doc_to_text: "{{text}}"
doc_to_choice: choices
doc_to_target: label
${accuracy}`,
  },
  {
    name: "rolling",
    documents: 200,
    requests: 200,
    serverDelayMs: 50,
    task: `output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{text}}"
metric_list: [{metric: bits_per_byte, aggregation: bits_per_byte, higher_is_better: false}]`,
  },
];

/** What one evaluation of one leaf took. */
interface Measured {
  /** While lm_eval's model is asked, encoding included. */
  readonly requests_per_s: number;
  /** From then to the first request that reaches the server. */
  readonly first_request_s: number;
  /** From loading the data to the result file. */
  readonly leaf_s: number;
  /** Of the harness's child for all of that. */
  readonly cpu_s: number;
}

interface Place {
  readonly harness: Harness;
  /** Tasks, documents and tokenizer. */
  readonly tasks: string;
  readonly results: string;
}

async function writeTasks(directory: string): Promise<void> {
  await mkdir(directory);
  const documents = Math.max(...cases.map((one) => one.documents));
  const script = join(import.meta.dirname, "support/prose.py");
  const settings = JSON.stringify({ directory, documents, tokens });
  const made = await runToEnd(python, [script, settings], { env: process.env });
  assert.equal(made.code, 0, made.stderr);
  const lines = (await readFile(join(directory, "documents.jsonl"), "utf8")).split("\n");
  for (const { name, documents, task } of cases) {
    await writeFile(join(directory, `${name}.jsonl`), lines.slice(0, documents).join("\n"));
    await writeFile(
      join(directory, `${name}.yaml`),
      `task: ${name}
dataset_path: json
dataset_kwargs: {data_files: {test: "${join(directory, `${name}.jsonl`)}"}}
test_split: test
${task}
`,
    );
  }
}

async function planLeaf({ harness, tasks }: Place, name: string): Promise<RunLeaf> {
  const planned = await harness.plan({
    suites: [name],
    include_path: tasks,
    cache_dir: join(tasks, "index"),
    evaluations: { default: evaluation },
  });
  const [leaf] = planned.leaves;
  const fingerprint = planned.evaluations["default"]?.fingerprints[name];
  assert(leaf !== undefined && fingerprint !== undefined);
  return { ...leaf, fingerprint };
}

async function startServer(delayMs: number) {
  const script = join(import.meta.dirname, "support/instant-server.ts");
  const child = await startGroup(process.execPath, [script, "--delay-ms", `${delayMs}`], {
    env: { PATH: process.env["PATH"] },
    stdin: "pipe",
    stdout: "pipe",
  });
  assert(child.stdout !== undefined);
  const { value } = await createInterface({ input: child.stdout })[Symbol.asyncIterator]().next();
  const { port } = JSON.parse(value as string) as { port: number };
  const takeFirstRequestAtMs = async () => {
    const answer = await fetch(`http://127.0.0.1:${port}`);
    return ((await answer.json()) as { first_request_at_ms: number }).first_request_at_ms;
  };
  return {
    port,
    takeFirstRequestAtMs,
    [Symbol.asyncDispose]: async () => void (await child.stop({ graceMs: 500 })),
  };
}

type Server = Awaited<ReturnType<typeof startServer>>;

async function measure(
  place: Place,
  server: Server,
  leaf: RunLeaf,
  engine: RunRequest["engine"],
): Promise<Measured & { readonly requests: number }> {
  await rm(place.results, { recursive: true, force: true });
  let askedAtMs: number | undefined;
  const messages: RunMessage[] = [];
  const settings = runSettings(place.results, [leaf], {
    evaluation,
    engine,
    env: { EH_PORT: `${server.port}`, EH_MODEL_PATH: place.tasks },
    cwd: place.tasks,
  });
  const ended = await place.harness.run(settings, (message) => {
    if (message.type === "progress" && message.phase === "requests") askedAtMs ??= Date.now();
    messages.push(message);
  }).ended;
  const [done] = ofType(messages, "leaf_done");
  assert(done !== undefined && askedAtMs !== undefined, JSON.stringify(messages.at(-1)));
  const firstRequestAtMs = await server.takeFirstRequestAtMs();
  return {
    requests: done.n_requests,
    requests_per_s: done.n_requests / done.requests_s,
    first_request_s: (firstRequestAtMs - askedAtMs) / 1_000,
    leaf_s: done.total_s,
    cpu_s: ended.cpu_s,
  };
}

/** Both engines in turn; the first round warms up. */
async function compare(place: Place, { name, requests, serverDelayMs }: Case) {
  await using server = await startServer(serverDelayMs);
  const leaf = await planLeaf(place, name);
  const rounds: Record<(typeof engines)[number], Measured>[] = [];
  for (let round = 0; round <= repeats; round++) {
    const plain = await measure(place, server, leaf, "plain");
    const fast = await measure(place, server, leaf, "fast");
    assert.deepEqual([plain.requests, fast.requests], [requests, requests]);
    if (round > 0) rounds.push({ plain, fast });
  }
  const figures = (engine: (typeof engines)[number]) => ({
    requests_per_s: summarize(
      rounds.map((round) => round[engine].requests_per_s),
      1,
    ),
    first_request_s: summarize(rounds.map((round) => round[engine].first_request_s)),
    leaf_s: summarize(rounds.map((round) => round[engine].leaf_s)),
    cpu_s: summarize(rounds.map((round) => round[engine].cpu_s)),
    rounds_requests_per_s: rounds.map((round) => Number(round[engine].requests_per_s.toFixed(1))),
  });
  return {
    requests,
    /** Of each round: whatever slowed the machine for a while slowed both. */
    speedup: summarize(
      rounds.map(({ plain, fast }) => fast.requests_per_s / plain.requests_per_s),
      2,
    ),
    plain: figures("plain"),
    fast: figures("fast"),
  };
}

await using directory = await temporaryDirectory("eval-hive-bench-");
const tasks = join(directory.path, "tasks");
await writeTasks(tasks);
await using harness = await startTestHarness(python, join(directory.path, "home"));
const place = { harness, tasks, results: join(directory.path, "results") };
const measured: Record<string, Awaited<ReturnType<typeof compare>>> = {};
for (const one of cases) measured[one.name] = await compare(place, one);
await keepResult("engine", { prompt_tokens: tokens, num_concurrent: concurrent, ...measured });
