/**
 * Real runs whose file system says no: strace refuses calls of one process of a run, on the files of the run and its
 * results alone, as a disk that is full or a file server that fails would.
 */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { cp, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { sendSignal } from "../../src/base/proc.ts";
import { type ChildGroup, type Exit, runToEnd, startGroup } from "../../src/base/spawn.ts";
import { type Call, callIn } from "./eval-hive.ts";
import { type ProcessRole, processesOfRun } from "./processes.ts";
import { root } from "./require.ts";
import { heldLeaves, type SmallPlace } from "./small-run.ts";
import {
  attachStrace,
  parseTrace,
  type Refusal,
  straceCommand,
  type TracedCall,
} from "./strace.ts";
import { until } from "./until.ts";

/** Whose calls are refused: of `create-run`, `run` itself, its agent, or an evaluation. */
export const stricken = ["create-run", "command", "agent", "harness child"] as const;
export type Stricken = (typeof stricken)[number];

export interface Fault extends Refusal {
  readonly role: Stricken;
}

/** Of a command that nothing was refused to. */
export interface CommandEnd {
  readonly exit: Exit;
  readonly told: string;
}

export interface FaultEnd {
  readonly exit: Exit;
  readonly stderr: string;
  /** What the process that was hit stored, and what of it was refused. */
  readonly calls: readonly TracedCall[];
  readonly refused: readonly TracedCall[];
}

const program = join(root, "dist/cli/eval-hive.mjs");
/** As a URL: a path may hold blanks, and NODE_OPTIONS is cut at them. */
const stopAtStart = new URL("stop-at-start.ts", import.meta.url).href;

/** The word in a command line by which `stop-at-start.ts` knows a process. */
const words: Readonly<Record<Exclude<Stricken, "harness child">, string>> = {
  "create-run": "create-run",
  command: "run",
  agent: "lead",
};

export class RefusingPlace {
  /** Calls by which an undisturbed run stores something, in order. */
  readonly undisturbed: readonly TracedCall[];
  readonly #place: SmallPlace;
  readonly #call: Call;
  /** Pid of the undisturbed run's, as it is in names; that of the next one's is another. */
  readonly #agent: string;

  private constructor(place: SmallPlace, call: Call, undisturbed: readonly TracedCall[]) {
    this.#place = place;
    this.#call = call;
    this.undisturbed = undisturbed;
    const names = undisturbed.flatMap(({ paths }) => paths).join("\n");
    this.#agent = /\/owners\/local-p(\d+)-/.exec(names)?.[1] ?? "";
    assert(this.#agent !== "", "the trace names no agent");
  }

  /** Plans and evaluates once in peace, to learn what is stored and where; nothing of it stays. */
  static async open(place: SmallPlace, python: string): Promise<RefusingPlace> {
    const call = callIn(place, python, {
      NODE_OPTIONS: `--import=${stopAtStart}`,
      // One thread stores all: the n-th call is the same in every run.
      UV_THREADPOOL_SIZE: "1",
    });
    const log = join(place.root, "strace.log");
    const [strace = "", ...args] = straceCommand(log);
    const { configFile, layout } = place;
    const run = ["run", configFile, "-o", layout.directory];
    const done = await runToEnd(strace, [...args, process.execPath, program, ...run], call);
    assert.equal(done.code, 0, done.stderr);
    const calls = parseTrace(await readFile(log, "utf8"));
    const opened = new RefusingPlace(place, call, storedIn(calls, place));
    await opened.reset();
    return opened;
  }

  /** As before `create-run`. */
  async reset(): Promise<void> {
    await rm(join(this.#place.root, "runs"), { recursive: true, force: true });
    await rm(this.#place.results, { recursive: true, force: true });
  }

  /** As after `create-run`, which is done once. */
  async planAnew(): Promise<void> {
    await this.reset();
    const runs = join(this.#place.root, "runs");
    const kept = join(this.#place.root, "planned");
    if (!existsSync(kept)) {
      const { exit, told } = await this.createRun();
      assert.equal(exit.code, 0, told);
      await cp(runs, kept, { recursive: true });
    } else await cp(kept, runs, { recursive: true });
  }

  /** In peace. */
  async createRun(...flags: string[]): Promise<CommandEnd> {
    const { configFile, layout } = this.#place;
    return await this.run("create-run", "-c", configFile, "-o", layout.directory, ...flags);
  }

  /** Calls the command in peace. */
  async run(...args: string[]): Promise<CommandEnd> {
    const { code, signal, stdout, stderr } = await runToEnd(
      process.execPath,
      [program, ...args],
      this.#call,
    );
    return { exit: { code, signal }, told: stderr + stdout };
  }

  /** Calls `create-run` or `run`, refuses what the fault says, and waits for the end. */
  async strike(fault: Fault): Promise<FaultEnd> {
    return fault.role === "harness child"
      ? await this.#strikeChild(fault)
      : await this.#strikeAtStart(fault, fault.role);
  }

  async #strikeAtStart(fault: Fault, role: Exclude<Stricken, "harness child">): Promise<FaultEnd> {
    const { configFile, layout } = this.#place;
    const args =
      role === "create-run"
        ? ["create-run", "-c", configFile, "-o", layout.directory]
        : ["run", layout.directory];
    const command = await this.#start(args, words[role]);
    const pid = role === "agent" ? await this.#pidOf("agent", command) : command.group.pid;
    await until(() => isStopped(pid));
    await using trace = await attachStrace(pid, {
      paths: this.#paths({ agent: `${pid}` }),
      refuse: fault,
    });
    sendSignal(pid, "SIGCONT");
    return await endOf(command, trace);
  }

  async #strikeChild(fault: Fault): Promise<FaultEnd> {
    const { layout } = this.#place;
    await this.#place.hold();
    const command = await this.#start(["run", layout.directory]);
    await until(async () => (await heldLeaves(layout)).length > 0, { timeoutMs: 60_000 });
    const child = await this.#pidOf("harness child", command);
    const agent = await this.#pidOf("agent", command);
    await using trace = await attachStrace(child, {
      paths: this.#paths({ agent: `${agent}`, child: `${child}` }),
      refuse: fault,
    });
    await this.#place.letGo();
    return await endOf(command, trace);
  }

  async #start(args: readonly string[], stopWord?: string): Promise<Command> {
    const { cwd, env } = this.#call;
    const stop = stopWord === undefined ? {} : { EH_STOP_AT_START: stopWord };
    const group = await startGroup(process.execPath, [program, ...args], {
      cwd,
      env: { ...env, ...stop },
      stderr: "pipe",
    });
    let text = "";
    const read = new Promise<void>((resolve) => {
      group.stderr?.setEncoding("utf8").on("data", (chunk: string) => {
        text += chunk;
      });
      group.stderr?.once("close", () => resolve());
    });
    return { group, read, stderr: () => text };
  }

  async #pidOf(role: ProcessRole, { stderr }: Command): Promise<number> {
    const process = await until(
      async () => (await processesOfRun(this.#place.root)).find((one) => one.role === role),
      { timeoutMs: 60_000, what: `there is a process: ${role}; ${stderr()}` },
    );
    return process.pid;
  }

  /** All that an undisturbed run stores, under the names that it has when these processes do it. */
  #paths({ agent, child = "0" }: { agent: string; child?: string }): string[] {
    const paths = new Set<string>();
    for (const { paths: seen } of this.undisturbed) {
      for (const path of seen) {
        const renamed = path
          .replaceAll(`-p${this.#agent}-`, `-p${agent}-`)
          .replace(/(\/events\/[^/]*)-\d+-(\w+\.jsonl)$/, `$1-${agent}-$2`)
          .replace(/(\/\.results_.*)\.\d+\.tmp$/, `$1.${child}.tmp`);
        for (const one of numbered(renamed)) paths.add(one);
      }
    }
    return [...paths];
  }
}

interface Command {
  readonly group: ChildGroup;
  readonly read: Promise<void>;
  readonly stderr: () => string;
}

async function endOf(
  { group, read, stderr }: Command,
  trace: { calls(): Promise<TracedCall[]> },
): Promise<FaultEnd> {
  const exit = await group.exited;
  await read;
  const calls = await trace.calls();
  return { exit, stderr: stderr(), calls, refused: calls.filter(({ refused }) => refused) };
}

async function isStopped(pid: number): Promise<boolean> {
  const stat = await readFile(`/proc/${pid}/stat`, "utf8");
  return stat.slice(stat.lastIndexOf(")")).startsWith(") T");
}

/** Epochs, and the records of who is at work, count up from call to call. */
function numbered(path: string): string[] {
  const match = /^(.*\/(?:(?:run|plan)-owner\/\.?|queue\/e|epochs\/\.?epoch\.))1([./].*)?$/.exec(
    path,
  );
  if (match === null) return [path];
  return Array.from({ length: 9 }, (_, n) => `${match[1]}${n + 1}${match[2] ?? ""}`);
}

function storedIn(calls: readonly TracedCall[], place: SmallPlace): TracedCall[] {
  const ours = [join(place.root, "runs/"), join(place.results, "/")];
  // Python's own cache is Python's business.
  const isOurs = (path: string) =>
    ours.some((start) => path.startsWith(start)) && !path.includes("/__pycache__/");
  return calls.filter(({ paths }) => paths.some(isOurs));
}

/**
 * Nothing gets the name under which it is read before its content is on the disk.
 * @param calls of a whole process tree
 */
export function assertSyncedBeforeNamed(calls: readonly TracedCall[]): void {
  const unsynced = new Set<string>();
  for (const { call, paths, result } of calls) {
    const [path = "", to] = paths;
    if (call === "create") unsynced.delete(path);
    if (call === "write") unsynced.add(path);
    if (call === "fsync" && result === "0") unsynced.delete(path);
    if ((call === "rename" || call === "link") && result === "0") {
      assert.ok(!unsynced.has(path), `"${path}" became "${to}" before it was on the disk`);
    }
  }
}
