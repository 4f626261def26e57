import { existsSync } from "node:fs";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, type TestContext } from "node:test";
import type { Harness, RunMessage } from "../../src/lmeval/harness.ts";
import type { Evaluation, RunLeaf } from "../../src/lmeval/protocol.ts";
import {
  completionsEvaluation,
  ofType,
  planLeaves,
  type RunSettings,
  runBatch,
  runSettings,
  startCompletionsServer,
  startTestHarness,
} from "./evaluations.ts";
import { isLong, requirePython } from "./require.ts";
import { temporaryDirectory } from "./temporary.ts";
import { writeByteTokenizer } from "./tokenizer.ts";
import { until } from "./until.ts";

type LmEvalVersion = "0.4.13" | "0.4.12";
type Ended = Awaited<ReturnType<typeof runBatch>>["ended"];

/** What one batch said, and where it said it. */
export interface BatchAnswer {
  readonly messages: readonly RunMessage[];
  readonly ended: Ended;
  /** Of this batch alone; results lie in `results`. */
  readonly directory: string;
  /** The log of the child. */
  log(): Promise<string>;
}

/** A warm harness, a completions server and a tokenizer, shared by the tests of a file. */
export interface HarnessBench {
  readonly python: string;
  readonly harness: Harness;
  readonly port: number;
  readonly tokenizer: string;
  /** The harness's own HOME. */
  readonly home: string;
  /** A directory that nobody else uses. */
  directory(): Promise<string>;
  /** Leaves of test/fixtures/eval-tasks by id. */
  plan(suites: readonly string[], evaluation?: Evaluation): Promise<Record<string, RunLeaf>>;
  /** A request that evaluates these leaves with the server; `given` replaces what it says. */
  settings(leaves: readonly string[], given?: Partial<RunSettings>): Promise<RunSettings>;
  run(leaves: readonly string[], given?: Partial<RunSettings>): Promise<BatchAnswer>;
}

export interface BenchOptions {
  /** Whether the older lm_eval has its turn always, or in the long form alone. Default: in the long form. */
  readonly older?: "always" | "long";
  /** Added to the environment of the harness. */
  readonly env?: NodeJS.ProcessEnv;
}

/** Describes the same with each lm_eval version, on a bench that is set up once. */
export function describeOnBench(
  title: string,
  { older = "long", env = {} }: BenchOptions,
  define: (bench: HarnessBench, version: LmEvalVersion) => void,
): void {
  const both = older === "always" || isLong;
  const versions: LmEvalVersion[] = both ? ["0.4.13", "0.4.12"] : ["0.4.13"];
  for (const version of versions) {
    describe(`${title}, lm_eval ${version}`, () => {
      const stack = new AsyncDisposableStack();
      const bench = {} as HarnessBench;
      before(async (t) => {
        const python = requirePython(t as TestContext, version);
        if (python !== undefined) Object.assign(bench, await setUp(python, env, stack));
      });
      after(async () => await stack.disposeAsync());
      define(bench, version);
    });
  }
}

async function setUp(
  python: string,
  env: NodeJS.ProcessEnv,
  stack: AsyncDisposableStack,
): Promise<HarnessBench> {
  const home = stack.use(await temporaryDirectory());
  const [server, harness] = await Promise.all([
    startCompletionsServer(),
    startTestHarness(python, join(home.path, "home"), env),
  ]);
  stack.use(server);
  stack.use(harness);
  const tokenizer = join(home.path, "tokenizer");
  await writeByteTokenizer(tokenizer);
  let directories = 0;
  const bench: HarnessBench = {
    python,
    harness,
    port: server.port,
    tokenizer,
    home: join(home.path, "home"),
    directory: async () => {
      const directory = join(home.path, `${++directories}`);
      await mkdir(directory);
      return directory;
    },
    plan: (suites, evaluation = completionsEvaluation()) =>
      planLeaves(harness, suites, evaluation, join(home.path, "cache")),
    settings: async (leaves, given = {}) => {
      const planned = leaves.length > 0 ? await bench.plan(leaves, given.evaluation) : {};
      return runSettings(
        await bench.directory(),
        leaves.map((leaf) => planned[leaf] as RunLeaf),
        {
          base_url_prefix: `http://127.0.0.1:${server.port}/batch`,
          ...given,
          env: { EH_PORT: String(server.port), EH_MODEL_PATH: tokenizer, ...given.env },
        },
      );
    },
    run: async (leaves, given) => {
      const settings = await bench.settings(leaves, given);
      return answerOf(settings, await runBatch(harness, settings));
    },
  };
  return bench;
}

export function answerOf(
  settings: RunSettings,
  { messages, ended }: Awaited<ReturnType<typeof runBatch>>,
): BatchAnswer {
  return {
    messages,
    ended,
    directory: join(settings.output_dir, ".."),
    log: () => readFile(settings.log_file, "utf8"),
  };
}

/** How each leaf of a batch ended, in order: `["ev_mc", "leaf_done"]`. */
export function endsOf({ messages }: Pick<BatchAnswer, "messages">): string[][] {
  return (["leaf_done", "leaf_invalid", "leaf_failed"] as const)
    .flatMap((type) => ofType(messages, type))
    .toSorted((a, b) => messages.indexOf(a) - messages.indexOf(b))
    .map(({ leaf, type }) => [leaf, type]);
}

/** Where the tasks of stations.py say how far they are, and wait. The directory is to be there. */
export function openStation(directory: string) {
  return {
    env: { EV_STATION: directory },
    /** What a task says, as soon as it does. */
    said: async <T>(name: string): Promise<T> => {
      const path = join(directory, name);
      await until(() => existsSync(path), { timeoutMs: 300_000, what: `a task says "${name}"` });
      return JSON.parse(await readFile(path, "utf8")) as T;
    },
    letGo: () => writeFile(join(directory, "go"), ""),
  };
}
