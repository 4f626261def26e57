/**
 * Small real runs: the tasks of test/fixtures/eval-tasks planned by real lm_eval into a run directory, evaluated by the
 * built agent behind completions-server.ts. `sh scripts/build.sh` makes the agent.
 */
import assert from "node:assert/strict";
import { cp, mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { processesWithEnvironment, sendSignal } from "../../src/base/proc.ts";
import { type ChildGroup, type Exit, startGroup } from "../../src/base/spawn.ts";
import { createRun } from "../../src/controller/create-run.ts";
import { openRunView } from "../../src/controller/status.ts";
import type { EventEnvelope, EventType, KnownEvent } from "../../src/events/event.ts";
import type { RunState } from "../../src/events/run-state.ts";
import type { OwnerId, UnitId } from "../../src/run/ids.ts";
import { RunLayout } from "../../src/run/layout.ts";
import type { Plan } from "../../src/run/plan.ts";
import { evalTasks, offlineEnvironment } from "./evaluations.ts";
import { root } from "./require.ts";
import { temporaryDirectory } from "./temporary.ts";
import { writeByteTokenizer } from "./tokenizer.ts";
import { until } from "./until.ts";

export interface SmallRunOptions {
  readonly python: string;
  /** Suites of eval-tasks, and of `taskFiles`. Default: as many leaves of four documents as `leaves` says. */
  readonly suites?: readonly string[];
  /** Leaves `small_00`, `small_01` … of four documents each, besides `suites`. Default: 3, or 0 with `suites`. */
  readonly leaves?: number;
  /** Further files beside those of eval-tasks: text by name, relative to the tasks' directory. */
  readonly taskFiles?: Readonly<Record<string, string>>;
  /** Units `small-0--main`, `small-1--main` … Default: 1. */
  readonly units?: number;
  /** Batches at a time. Default: 2. */
  readonly slots?: number;
  /** Of completions-server.ts, as shell words, e.g. `--delay-ms 20`. */
  readonly serverFlags?: string;
  /** Instead of that server; null: serverless. */
  readonly serverCommand?: string | null;
  /** By number of the unit: what its model entry overrides. */
  readonly profiles?: Readonly<Record<number, Readonly<Record<string, unknown>>>>;
  /** More keys of the config; those of `eval` are merged. */
  readonly config?: Readonly<Record<string, unknown>>;
  /** Added to the environment of planning and of agents. */
  readonly env?: Readonly<Record<string, string>>;
}

/** All that a small run is planned from. Disposing it ends whatever carries its mark, and removes it. */
export interface SmallPlace extends AsyncDisposable {
  /** Holds everything: config, tasks, models, results, and, once there is one, the run directory `runs/small`. */
  readonly root: string;
  /** Of `runs/small`. */
  readonly layout: RunLayout;
  readonly configFile: string;
  /** Where create-run is called; holds the tasks. */
  readonly tasks: string;
  readonly results: string;
  /** For agents and commands: offline, with the run's own home, and with EH_TEST_RUN, the mark. */
  readonly env: NodeJS.ProcessEnv;
  /** From now on no request is answered, until it is let go. */
  hold(): Promise<void>;
  letGo(): Promise<void>;
  /** Writes the config anew. */
  writeConfig(changes: ConfigChanges): Promise<void>;
  /** What status would say. */
  state(): Promise<RunState>;
  /** Paths of leaf files, relative to `results`, in order. */
  leafFiles(): Promise<string[]>;
  /** All events of one type, in the order of their times. */
  events<T extends EventType>(type: T): Promise<EventOf<T>[]>;
}

/** What differs from the options that the place was made with. */
export type ConfigChanges = Pick<SmallRunOptions, "suites" | "units" | "config">;

/** A run that was planned, and nobody has begun. Disposing it ends all agents that were started in it, too. */
export interface SmallRun extends SmallPlace {
  readonly plan: Plan;
  startLead(options?: LeadStart): Promise<LeadProcess>;
}

type EventOf<T extends EventType> = Extract<KnownEvent, { readonly type: T }>;

export interface LeadStart {
  /** Default: true. */
  readonly leash?: boolean;
  /** Added to the run's. */
  readonly env?: Readonly<Record<string, string>>;
  readonly args?: readonly string[];
  /** Of Node, before the agent's file. */
  readonly nodeArgs?: readonly string[];
  /** What bash does before it becomes the agent, e.g. `ulimit -f 4`. */
  readonly before?: string;
}

/** The last word of a lead agent, and how its process ended. */
export interface LeadEnd {
  readonly exit: Exit;
  readonly said: { readonly reason: string; readonly exit_code: number; readonly message?: string };
}

/** A lead agent as a process. */
export interface LeadProcess {
  readonly pid: number;
  readonly owner: OwnerId;
  /** Writes a line to its leash: `drain` or `abort`. */
  say(line: "drain" | "abort"): void;
  /** Lets go of its leash. */
  letGo(): void;
  signal(signal: NodeJS.Signals): void;
  /** Of its end. @throws after `timeoutMs`, 180 s unless given, or when it ended without a word. */
  end(timeoutMs?: number): Promise<LeadEnd>;
  /** What it has written to stderr up to now. */
  log(): string;
  /** Pids of what it has started, in whatever group; without itself. `part`: of those, whose command line holds it. */
  descendants(part?: string): Promise<number[]>;
}

export async function makeSmallRun(options: SmallRunOptions): Promise<SmallRun> {
  const place = await makeSmallPlace(options);
  try {
    return await planSmallRun(options.python, place);
  } catch (error) {
    await place[Symbol.asyncDispose]();
    throw error;
  }
}

/** Config, tasks and models: nothing is planned yet. */
export async function makeSmallPlace(
  options: Omit<SmallRunOptions, "python">,
): Promise<SmallPlace> {
  const directory = await temporaryDirectory("eval-hive-small-");
  const { suites = [], leaves = suites.length === 0 ? 3 : 0 } = options;
  const within = (name: string) => join(directory.path, name);
  const env = {
    ...offlineEnvironment(within("home")),
    EH_TEST_RUN: directory.path,
    MOCK_HOLD_WHILE: within("hold"),
    ...options.env,
  };
  const small = Array.from({ length: leaves }, (_, n) => `small_${String(n).padStart(2, "0")}`);
  const configFile = within("eh_config.yaml");
  const results = within("results");
  const writeConfig = async (changes: ConfigChanges): Promise<void> => {
    const models = await writeModels(within("models"), { ...options, ...changes });
    const config = smallConfig(
      { ...options, suites: [...small, ...suites], ...changes },
      models,
      within("tasks"),
    );
    // JSON is YAML.
    await writeFile(configFile, JSON.stringify({ ...config, output_path: results }, undefined, 2));
  };
  try {
    await writeTasks(within("tasks"), small, options.taskFiles ?? {});
    await writeConfig({});
  } catch (error) {
    await directory[Symbol.asyncDispose]();
    throw error;
  }
  const layout = new RunLayout(within("runs/small"));
  return {
    root: directory.path,
    layout,
    configFile,
    tasks: within("tasks"),
    results,
    env,
    hold: () => writeFile(within("hold"), ""),
    letGo: () => rm(within("hold"), { force: true }),
    writeConfig,
    state: async () => (await openRunView(layout).look()).state,
    leafFiles: async () => {
      const names = await readdir(results, { recursive: true }).catch(() => []);
      return names.filter((name) => /(^|\/)results_[^/]*\.json$/.test(name)).sort();
    },
    events: (type) => readEventsOf(layout, type),
    [Symbol.asyncDispose]: async () => {
      // A lead that was killed has left what it started, until the next one looks.
      await until(async () => {
        const left = await processesWithEnvironment("EH_TEST_RUN", directory.path);
        for (const pid of left) sendSignal(pid, "SIGKILL");
        return left.length === 0;
      });
      await directory[Symbol.asyncDispose]();
    },
  };
}

async function planSmallRun(python: string, place: SmallPlace): Promise<SmallRun> {
  const { env, configFile } = place;
  const { layout, plan } = await createRun({
    configFile,
    directory: place.layout.directory,
    mode: "new",
    dry: false,
    strict: true,
    allowMissingPaths: false,
    python,
    env,
    cwd: place.tasks,
    installationRoot: root,
    version: "0.0.0-test",
    travelling: {
      agentFile: join(root, "dist/agent.mjs"),
      harnessDirectory: join(root, "harness"),
    },
    say: () => {},
    signal: new AbortController().signal,
  });
  const leads: ChildGroup[] = [];
  return {
    ...place,
    plan,
    startLead: async (start = {}) => {
      const { group, lead } = await startLead(layout, plan, { ...env, ...start.env }, start);
      leads.push(group);
      return lead;
    },
    [Symbol.asyncDispose]: async () => {
      for (const lead of leads) await lead.stop({ graceMs: 0 });
      await place[Symbol.asyncDispose]();
    },
  };
}

async function writeModels(
  directory: string,
  { units = 1, profiles = {} }: Pick<SmallRunOptions, "units" | "profiles">,
): Promise<Record<string, unknown>> {
  const models: Record<string, unknown> = {};
  for (let n = 0; n < units; n++) {
    const path = join(directory, `small-${n}`);
    await writeByteTokenizer(path);
    const profile = profiles[n];
    models[`small-${n}`] = { path, display_name: `Small ${n}`, ...(profile && { profile }) };
  }
  return models;
}

/** The tasks of eval-tasks, tiny leaves over the first four documents of their multiple choice, and what else is given. */
async function writeTasks(
  directory: string,
  small: readonly string[],
  files: Readonly<Record<string, string>>,
): Promise<void> {
  await cp(evalTasks, directory, { recursive: true });
  const documents = await readFile(join(evalTasks, "data/mc.jsonl"), "utf8");
  await writeFile(
    join(directory, "data/small.jsonl"),
    documents.split("\n").slice(0, 4).join("\n"),
  );
  const data = "dataset_kwargs: {data_files: {test: data/small.jsonl}}";
  for (const name of small) {
    // The name in each prompt, so that a server can tell which leaf asks.
    const text = `include: _mc_base\ntask: ${name}\ndescription: "${name}\\n"\n${data}\n`;
    await writeFile(join(directory, `${name}.yaml`), text);
  }
  for (const [name, text] of Object.entries(files)) {
    await mkdir(join(directory, name, ".."), { recursive: true });
    await writeFile(join(directory, name), text);
  }
}

/** The command that starts completions-server.ts; flags as shell words. */
export function completionsCommand(flags = ""): string {
  const program = `exec "${process.execPath}" "${root}/test/support/completions-server.ts"`;
  return `${program} ${flags}`.trim();
}

function smallConfig(
  {
    suites = [],
    slots = 2,
    serverFlags = "",
    serverCommand,
    config = {},
  }: Omit<SmallRunOptions, "python">,
  models: Readonly<Record<string, unknown>>,
  tasks: string,
): Record<string, unknown> {
  const { eval: given, ...rest } = config as { eval?: Record<string, Record<string, unknown>> };
  const { model_args, lm_eval_args, ...evaluation } = given ?? {};
  const server = serverCommand === undefined ? completionsCommand(serverFlags) : serverCommand;
  return {
    job_name: "small",
    models,
    inference_server_command: server,
    parallel_tasks: slots,
    // Tests look at the end of servers, not at patience.
    health_check_interval_seconds: 1,
    server_start_max_attempts: 2,
    offline: "always",
    ...rest,
    eval: {
      eval_suite_path: tasks,
      suites_and_tasks: suites,
      ...evaluation,
      model_args: {
        model: "${EH_MODEL_PATH}",
        ...(server !== null && {
          base_url: "http://127.0.0.1:${EH_PORT}/v1/completions",
          num_concurrent: 4,
        }),
        ...model_args,
      },
      lm_eval_args: { model: "local-completions", log_samples: true, ...lm_eval_args },
    },
  };
}

async function startLead(
  layout: RunLayout,
  plan: Plan,
  env: NodeJS.ProcessEnv,
  { leash = true, args = [], nodeArgs = [], before = ":" }: LeadStart,
): Promise<{ group: ChildGroup; lead: LeadProcess }> {
  const owner = `local-test-${process.pid}-${Math.random().toString(16).slice(2, 10)}` as OwnerId;
  const group = await startGroup(
    "bash",
    [
      // With a socket as stdin bash would read its rc file.
      ...["--norc", "-c", `${before}; exec "$0" "$@"`, process.execPath, ...nodeArgs],
      join(plan.harness.store, "agent.mjs"),
      ...["lead", "--run", layout.directory, "--owner", owner],
      ...(leash ? ["--leash"] : []),
      ...args,
    ],
    {
      env,
      stdin: "pipe",
      stdout: "pipe",
      stderr: "pipe",
      cwd: plan.working_directory,
    },
  );
  let said: LeadEnd["said"] | undefined;
  let stderr = "";
  const { stdout, stderr: errors } = group;
  assert(stdout !== undefined && errors !== undefined);
  errors.on("data", (chunk: Buffer) => {
    stderr += chunk.toString();
  });
  const lines = createInterface({ input: stdout });
  lines.on("line", (line) => {
    said = JSON.parse(line) as LeadEnd["said"];
  });
  const linesEnded = new Promise<void>((resolve) => lines.once("close", resolve));
  const lead: LeadProcess = {
    pid: group.pid,
    owner,
    say: (line) => void group.stdin?.write(`${line}\n`),
    letGo: () => void group.stdin?.end(),
    signal: (signal) => void sendSignal(group.pid, signal),
    end: async (timeoutMs = 180_000) => {
      const timer = setTimeout(() => void group.signal("SIGKILL"), timeoutMs);
      const exit = await group.exited;
      clearTimeout(timer);
      await linesEnded;
      assert(said !== undefined, `The agent ended without a word (${exit.signal}): ${stderr}`);
      return { exit, said };
    },
    log: () => stderr,
    descendants: async (part = "") => {
      const pids: number[] = [];
      for (const pid of await processesWithEnvironment("EH_OWNER", owner)) {
        const command = await readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => undefined);
        if (pid !== group.pid && command?.includes(part) === true) pids.push(pid);
      }
      return pids;
    },
  };
  return { group, lead };
}

/** All events of one type in a run directory, in the order of their times. */
export async function readEventsOf<T extends EventType>(
  layout: RunLayout,
  type: T,
): Promise<EventOf<T>[]> {
  const events: EventEnvelope[] = [];
  for (const name of await readdir(layout.events).catch(() => [])) {
    const text = await readFile(join(layout.events, name), "utf8");
    for (const line of text.split("\n").slice(0, -1)) {
      // A line that a full disk has cut was written again.
      if (line.endsWith("}")) events.push(JSON.parse(line));
    }
  }
  return events
    .filter((event): event is EventOf<T> => event.type === type)
    .sort((a, b) => a.at.localeCompare(b.at));
}

/** Leaves `small_…` whose requests the server of this run holds now. */
export async function heldLeaves(layout: RunLayout): Promise<string[]> {
  const server = (await readEventsOf(layout, "server.healthy")).at(-1);
  if (server === undefined) return [];
  const answer = await fetch(`http://127.0.0.1:${server.port}/stats`).catch(() => undefined);
  const stats = (await answer?.json().catch(() => undefined)) as { held: string[] } | undefined;
  return [...new Set(stats?.held.map((prompt) => prompt.split("\n")[0] ?? ""))].sort();
}

/** Waits until as many leaves as there are slots are in progress and held, and names them. */
export async function awaitHeld(layout: RunLayout, slots: number): Promise<string[]> {
  return await until(
    async () => {
      const held = await heldLeaves(layout);
      return held.length === slots ? held : undefined;
    },
    { timeoutMs: 180_000, what: "the requests of each slot are held" },
  );
}

/** Unit `n` of every small run. */
export function smallUnit(n: number): UnitId {
  return `small-${n}--main` as UnitId;
}
