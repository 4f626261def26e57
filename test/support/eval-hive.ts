/** The built command, as users call it. */
import { join } from "node:path";
import { sendSignal } from "../../src/base/proc.ts";
import { type Completed, type Exit, runToEnd, startGroup } from "../../src/base/spawn.ts";
import { root } from "./require.ts";
import type { SmallPlace } from "./small-run.ts";

export const launcher = join(root, "bin/eval-hive");

/** Where and how a command is called. */
export interface Call {
  readonly cwd: string;
  readonly env: NodeJS.ProcessEnv;
}

/** In the tasks' directory of a small run, with the Python of the tests. */
export function callIn(
  place: Pick<SmallPlace, "tasks" | "env">,
  python: string,
  env: NodeJS.ProcessEnv = {},
): Call {
  return {
    cwd: place.tasks,
    env: { ...place.env, EVAL_HIVE_PYTHON: python, EVAL_HIVE_NODE: process.execPath, ...env },
  };
}

/** Calls it and waits for its end; one that hangs is killed after five minutes. */
export async function evalHive(args: readonly string[], { cwd, env }: Call): Promise<Completed> {
  return await runToEnd(launcher, args, { cwd, env, signal: AbortSignal.timeout(300_000) });
}

/** A command that goes on. Disposing it kills it, and only it. */
export interface RunningCommand extends AsyncDisposable {
  readonly pid: number;
  /** To the command alone, as a terminal would: what it has started is in other groups. */
  signal(signal: NodeJS.Signals): void;
  /** What it has said so far. */
  stdout(): string;
  stderr(): string;
  /** Its end, when all that it said has been read. */
  readonly ended: Promise<Exit>;
}

export async function startEvalHive(args: readonly string[], call: Call): Promise<RunningCommand> {
  return await startCommand(launcher, args, call);
}

/** As `startEvalHive`, for a program that calls it. */
export async function startCommand(
  file: string,
  args: readonly string[],
  { cwd, env }: Call,
): Promise<RunningCommand> {
  const group = await startGroup(file, args, { cwd, env, stdout: "pipe", stderr: "pipe" });
  const texts = { stdout: "", stderr: "" };
  const read = (["stdout", "stderr"] as const).map(
    (name) =>
      new Promise<void>((resolve) => {
        group[name]?.setEncoding("utf8").on("data", (text: string) => {
          texts[name] += text;
        });
        group[name]?.once("close", () => resolve());
      }),
  );
  return {
    pid: group.pid,
    signal: (signal) => void sendSignal(group.pid, signal),
    stdout: () => texts.stdout,
    stderr: () => texts.stderr,
    ended: group.exited.then(async (exit) => {
      await Promise.all(read);
      return exit;
    }),
    [Symbol.asyncDispose]: async () => {
      await group.stop({ graceMs: 0 });
    },
  };
}
