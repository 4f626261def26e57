import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import { runToEnd } from "../../src/base/spawn.ts";
import type { Harness, RunMessage } from "../../src/lmeval/harness.ts";
import type { RunLeaf, RunRequest } from "../../src/lmeval/protocol.ts";
import {
  comparable,
  completionsEvaluation,
  offlineEnvironment,
  ofType,
  planLeaves,
  readResult,
  runBatch,
  runSettings,
  startCompletionsServer,
  startTestHarness,
} from "../support/evaluations.ts";
import { isLong, requirePython, root } from "../support/require.ts";
import { makeSmallRun } from "../support/small-run.ts";
import { temporaryDirectory } from "../support/temporary.ts";
import { writeByteTokenizer } from "../support/tokenizer.ts";

/** Of every output type; with repeats, stop texts, several generation_kwargs and several types in one leaf. */
const leafNames = [
  "ev_mc",
  "ev_unicode",
  "ev_loglikelihood",
  "ev_rolling",
  "ev_stops",
  "ev_repeats",
  "ev_mixed",
  ...(isLong ? ["ev_mc_fewshot", "ev_mc_first_n", "ev_generate", "ev_filters", "ev_python"] : []),
];

interface Variant {
  readonly name: string;
  /** Default: all of leafNames. */
  readonly leaves?: readonly string[];
  readonly model_args?: Record<string, unknown>;
  readonly lm_eval_args?: Record<string, unknown>;
  readonly tokenizer?: Parameters<typeof writeByteTokenizer>[1];
  /** Not in `npm test`. */
  readonly long?: true;
}

const words = {
  words: true,
  merges: [
    ["t", "h"],
    ["th", "e"],
    ["A", ":"],
  ],
} as const;
const variants: Variant[] = [
  { name: "prompt by prompt, with a tokenizer that divides words", tokenizer: words },
  {
    name: "four at a time, cut to a short context behind BOS",
    model_args: { max_length: 48, add_bos_token: true },
    lm_eval_args: { batch_size: 4, num_fewshot: 2 },
  },
  {
    name: "64 at a time",
    model_args: { custom_prefix_token_id: 7 },
    lm_eval_args: { batch_size: 64 },
    tokenizer: words,
    long: true,
  },
  {
    name: "as texts",
    model_args: { tokenized_requests: false, max_length: 100 },
    lm_eval_args: { num_fewshot: 1 },
    long: true,
  },
  {
    name: "prompt by prompt with few-shot examples, cut",
    model_args: { max_length: 200 },
    lm_eval_args: { num_fewshot: 3, gen_kwargs: "temperature=0.5" },
    tokenizer: words,
    long: true,
  },
  {
    name: "one request at a time",
    model_args: { num_concurrent: 1 },
    lm_eval_args: { limit: 3 },
  },
];

/** One harness for all tests of a Python. */
const harnesses = new Map<string, Promise<Harness>>();
const harnessHome = await temporaryDirectory();

async function sharedHarness(python: string): Promise<Harness> {
  const home = join(harnessHome.path, `${harnesses.size}`);
  const harness = harnesses.get(python) ?? startTestHarness(python, home);
  harnesses.set(python, harness);
  return await harness;
}

after(async () => {
  for (const harness of harnesses.values()) await (await harness)[Symbol.asyncDispose]();
  await harnessHome[Symbol.asyncDispose]();
});

describe("the fast engine sends what lm_eval's own code sends, byte for byte, and scores the same", () => {
  for (const version of ["0.4.13", "0.4.12"] as const) {
    for (const variant of variants) {
      if (!isLong && (variant.long || (version === "0.4.12" && variant !== variants[1]))) continue;
      test(`lm_eval ${version}, ${variant.name}`, { timeout: 300_000 }, async (t) => {
        const python = requirePython(t, version);
        if (python === undefined) return;
        const harness = await sharedHarness(python);
        await using home = await temporaryDirectory();
        await using server = await startRecordingServer(home.path);
        const evaluate = await prepare(harness, server, home.path, variant);
        const plain = await evaluate("plain");
        const fast = await evaluate("fast");
        assert(plain.requests.length > leafNames.length);
        assert.deepEqual(fast.requests, plain.requests);
        assert.deepEqual(fast.results, plain.results);
      });
    }
  }
});

test("encodes as lm_eval does text by text, or leaves it to lm_eval", async (t) => {
  const python = requirePython(t);
  if (python === undefined) return;
  await using home = await temporaryDirectory();
  const settings = { seed: isLong ? Date.now() % 1_000_000 : 20261125, pairs: isLong ? 1_500 : 80 };
  t.diagnostic(JSON.stringify(settings));
  const env = {
    ...offlineEnvironment(home.path),
    PYTHONPATH: join(root, "harness"),
    PYTHONDONTWRITEBYTECODE: "1",
  };
  const script = join(root, "test/support/encodings.py");
  const done = await runToEnd(python, [script, JSON.stringify(settings)], { env });
  assert.equal(done.code, 0, done.stderr.slice(-2_000));
  const { cases, fallbacks } = JSON.parse(done.stdout) as {
    cases: Record<
      string,
      { expected: string | null; encoder: string | null; different: unknown[] }
    >;
    fallbacks: Record<string, boolean>;
  };
  for (const [name, { expected, encoder, different }] of Object.entries(cases)) {
    assert.equal(encoder, expected, name);
    assert.deepEqual(different, [], name);
  }
  for (const [name, isPlain] of Object.entries(fallbacks)) assert(isPlain, name);
});

test("rolling documents are under way together, with the engine off one after another", async (t) => {
  const python = requirePython(t);
  if (python === undefined) return;
  const harness = await sharedHarness(python);
  await using home = await temporaryDirectory();
  for (const engine of ["plain", "fast"] as const) {
    await using server = await startRecordingServer(home.path, ["--delay-ms", "20"]);
    const evaluate = await prepare(harness, server, home.path, {
      name: "rolling",
      leaves: ["ev_rolling"],
      // One window per document.
      model_args: { num_concurrent: 4, max_length: 2_048 },
    });
    await evaluate(engine);
    assert.equal(await server.mostAtOnce(), engine === "plain" ? 1 : 4);
  }
});

test("templates are compiled once, with the engine off for each document", async (t) => {
  const python = requirePython(t);
  if (python === undefined) return;
  const harness = await sharedHarness(python);
  await using home = await temporaryDirectory();
  await using server = await startRecordingServer(home.path);
  const leaves = ["ev_compilations"];
  const evaluate = await prepare(harness, server, home.path, { name: "compilations", leaves });
  const compilations = async (engine: RunRequest["engine"]) => {
    const [leaf] = (await evaluate(engine)).results;
    return leaf?.scores["compilations,none"] ?? Number.NaN;
  };
  assert.equal(await compilations("fast"), 1);
  assert((await compilations("plain")) > 10);
});

test("harness_engine: plain of a config turns it off in a job", async (t) => {
  const python = requirePython(t);
  if (python === undefined) return;
  await using run = await makeSmallRun({
    python,
    suites: ["ev_compilations"],
    config: { harness_engine: "plain" },
  });
  const { exit } = await (await run.startLead()).end();
  assert.equal(exit.code, 0);
  const [file = ""] = await run.leafFiles();
  const { result } = await readResult(join(run.results, file));
  const { ev_compilations: scores } = result["results"] as Record<string, Record<string, number>>;
  assert((scores?.["compilations,none"] ?? 0) > 10);
});

test("answers come from lm_eval's response cache the next time", async (t) => {
  const python = requirePython(t);
  if (python === undefined) return;
  const harness = await sharedHarness(python);
  await using home = await temporaryDirectory();
  await using server = await startRecordingServer(home.path);
  const evaluate = await prepare(harness, server, home.path, {
    name: "cache",
    leaves: ["ev_mc", "ev_rolling", "ev_stops"],
    lm_eval_args: { use_cache: join(home.path, "responses") },
  });
  const first = await evaluate("fast", "first");
  const second = await evaluate("fast", "second");
  assert(first.requests.length > 0);
  assert.deepEqual(second, { ...first, requests: [] });
});

test("a request that fails is tried again as often as lm_eval would, and then fails the leaf", async (t) => {
  const python = requirePython(t);
  if (python === undefined) return;
  const harness = await sharedHarness(python);
  await using home = await temporaryDirectory();
  await using server = await startRecordingServer(home.path, ["--fail-on", "number 3,"]);
  const evaluation = completionsEvaluation();
  const planned = await planLeaves(
    harness,
    ["ev_mc", "ev_rolling"],
    evaluation,
    join(home.path, "cache"),
  );
  const tokenizer = join(home.path, "tokenizer");
  await writeByteTokenizer(tokenizer);
  const { messages, ended } = await runBatch(
    harness,
    runSettings(home.path, Object.values(planned), {
      evaluation,
      request_retries: 2,
      env: { EH_PORT: String(server.port), EH_MODEL_PATH: tokenizer },
      base_url_prefix: `http://127.0.0.1:${server.port}/fast`,
    }),
  );
  assert.equal(ended.exit_code, 0);
  assert.deepEqual(
    ofType(messages, "leaf_failed").map(({ leaf, class: kind }) => [leaf, kind]),
    [["ev_mc", "requests"]],
  );
  assert.deepEqual(
    ofType(messages, "leaf_done").map(({ leaf }) => leaf),
    ["ev_rolling"],
  );
  const counts = new Map<string, number>();
  for (const request of await server.requests("/fast")) {
    counts.set(request, (counts.get(request) ?? 0) + 1);
  }
  // Four prompts ask about number 3; each fails, waits a second and fails again, unless another one ends the leaf first.
  const tries = [...counts.values()].filter((count) => count > 1);
  assert(tries.length > 0 && tries.every((count) => count === 2), tries.join());
});

type RecordingServer = Awaited<ReturnType<typeof startRecordingServer>>;

/** `requests`: what came to paths below a prefix, each as it came, sorted. `mostAtOnce`: of all of them. */
async function startRecordingServer(directory: string, flags: readonly string[] = []) {
  const log = join(directory, "requests");
  const server = await startCompletionsServer(["--body-log", log, ...flags]);
  const requests = async (prefix: string) =>
    (await readFile(log, "utf8"))
      .split("\n")
      .filter((line) => line.startsWith(`${prefix}/`))
      .map((line) => line.slice(prefix.length))
      .sort();
  const mostAtOnce = async () => {
    const answer = await fetch(`http://127.0.0.1:${server.port}/stats`);
    return ((await answer.json()) as { mostAtOnce: number }).mostAtOnce;
  };
  return { ...server, requests, mostAtOnce };
}

/** Plans all leaves, for a function that evaluates them and gives results by leaf and requests, sorted. */
async function prepare(
  harness: Harness,
  server: RecordingServer,
  home: string,
  { leaves: names = leafNames, tokenizer, ...variant }: Variant,
) {
  const tokenizerPath = join(home, "tokenizer");
  await writeByteTokenizer(tokenizerPath, tokenizer);
  const evaluation = completionsEvaluation(variant);
  const planned = await planLeaves(harness, names, evaluation, join(home, "cache"));
  const leaves = names.map((name) => planned[name] as RunLeaf);
  const env = { EH_PORT: String(server.port), EH_MODEL_PATH: tokenizerPath };
  return async (engine: RunRequest["engine"], place: string = engine) => {
    const base_url_prefix = `http://127.0.0.1:${server.port}/${place}`;
    const settings = runSettings(join(home, place), leaves, {
      evaluation,
      engine,
      env,
      base_url_prefix,
    });
    const { messages, ended } = await runBatch(harness, settings);
    assert.deepEqual(ofType(messages, "leaf_failed"), []);
    assert.equal(ended.exit_code, 0);
    return {
      requests: await server.requests(`/${place}`),
      results: await Promise.all(ofType(messages, "leaf_done").map(readDone)),
    };
  };
}

async function readDone(done: Extract<RunMessage, { type: "leaf_done" }>) {
  const { leaf, path, samples_path, n_requests } = done;
  const read = await readResult(path, samples_path ?? undefined);
  const { [leaf]: scores = {} } = read.result["results"] as Record<string, Record<string, number>>;
  return { leaf, n_requests, scores, all: comparable(read) };
}
