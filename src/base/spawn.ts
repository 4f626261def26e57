import { spawn } from "node:child_process";
import type { Readable, Writable } from "node:stream";
import { systemClock } from "./clock.ts";
import { isGroupRunning, sendSignal } from "./proc.ts";

/** How a process ended: exactly one of the two is set. */
export interface Exit {
  readonly code: number | undefined;
  readonly signal: NodeJS.Signals | undefined;
}

/** `exit code 3` or `SIGKILL`: for messages. */
export function describeExit({ code, signal }: Exit): string {
  return signal ?? `exit code ${code ?? "unknown"}`;
}

export interface SpawnOptions {
  readonly cwd?: string;
  /** The whole environment of the child; nothing is inherited. */
  readonly env: NodeJS.ProcessEnv;
  readonly stdin?: "pipe" | "ignore";
  /** A file descriptor appends there. */
  readonly stdout?: "pipe" | "ignore" | number;
  readonly stderr?: "pipe" | "ignore" | number;
}

export interface StopOptions {
  /** The polite signal. Default: SIGTERM. */
  readonly signal?: NodeJS.Signals;
  /** From the polite signal to SIGKILL. */
  readonly graceMs: number;
}

/**
 * A child in a process group of its own. Disposing it stops the whole group and waits for its end, so nothing that the
 * child started in its group stays behind.
 */
export interface ChildGroup extends AsyncDisposable {
  readonly pid: number;
  readonly stdin: Writable | undefined;
  readonly stdout: Readable | undefined;
  readonly stderr: Readable | undefined;
  /** Settles when the child has ended; never rejects. */
  readonly exited: Promise<Exit>;
  /** False when no member of the group runs any more. */
  isRunning(): Promise<boolean>;
  /** To the whole group. @returns false when no member is left. */
  signal(signal: NodeJS.Signals): boolean;
  /** Polite signal, then SIGKILL, to the whole group; resolves when the child has ended and the group is empty. */
  stop(options: StopOptions): Promise<Exit>;
}

/** Thrown when a program can't be started at all, e.g. because it does not exist. */
export class SpawnError extends Error {
  constructor(file: string, options: ErrorOptions) {
    super(`Cannot start "${file}"`, options);
    this.name = "SpawnError";
  }
}

/** Starts `file` as the leader of a new process group, without a shell. @throws {SpawnError} */
export async function startGroup(
  file: string,
  args: readonly string[],
  options: SpawnOptions,
): Promise<ChildGroup> {
  const child = spawn(file, args, {
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    env: options.env,
    stdio: [options.stdin ?? "ignore", options.stdout ?? "ignore", options.stderr ?? "ignore"],
    detached: true,
  });
  // "close" would wait for grandchildren that hold the pipes.
  const exited = new Promise<Exit>((resolve) => {
    child.once("exit", (code, signal) =>
      resolve({ code: code ?? undefined, signal: signal ?? undefined }),
    );
  });
  await new Promise<void>((resolve, reject) => {
    child.once("spawn", resolve);
    child.once("error", (error) => reject(new SpawnError(file, { cause: error })));
  });
  const pid = child.pid as number;
  // A child that dies while it is written to is reported by `exited`, not by its pipe.
  child.stdin?.on("error", () => {});
  let hasExited = false;
  void exited.then(() => {
    hasExited = true;
  });
  let stopping: Promise<Exit> | undefined;
  const group: ChildGroup = {
    pid,
    stdin: child.stdin ?? undefined,
    stdout: child.stdout ?? undefined,
    stderr: child.stderr ?? undefined,
    exited,
    // While the child itself runs nobody has to look at the others.
    isRunning: async () => !hasExited || (await isGroupRunning(pid)),
    signal: (signal) => sendSignal(-pid, signal),
    stop: (stop) => {
      stopping ??= stopGroup(group, stop);
      return stopping;
    },
    [Symbol.asyncDispose]: async () => {
      await group.stop({ graceMs: 5_000 });
    },
  };
  return group;
}

/** A process in uninterruptible sleep is not waited for longer than this after SIGKILL. */
const killedWaitMs = 10_000;

async function stopGroup(group: ChildGroup, options: StopOptions): Promise<Exit> {
  const deadline = systemClock.monotonic() + options.graceMs;
  group.signal(options.signal ?? "SIGTERM");
  // A stopped process keeps its signals until it is continued.
  group.signal("SIGCONT");
  while (await group.isRunning()) {
    const lateMs = systemClock.monotonic() - deadline;
    if (lateMs >= 0) group.signal("SIGKILL");
    if (lateMs > killedWaitMs) break;
    await systemClock.sleep(20);
  }
  return await group.exited;
}

export interface Completed extends Exit {
  readonly stdout: string;
  readonly stderr: string;
}

/**
 * Runs a program to its end, without a shell, and gives what it printed. When the signal aborts, the program is killed with
 * all that it has started in its group. @throws {SpawnError} when it can't start.
 */
export async function runToEnd(
  file: string,
  args: readonly string[],
  options: {
    readonly cwd?: string;
    readonly env: NodeJS.ProcessEnv;
    readonly signal?: AbortSignal;
  },
): Promise<Completed> {
  const { signal } = options;
  // Loaded by those alone that run programs: most processes never do.
  const { execa } = await import("execa");
  const running = execa(file, args, {
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    env: options.env,
    extendEnv: false,
    stdin: "ignore",
    reject: false,
    // A group of its own, whose other members would keep its output open after its death.
    detached: signal !== undefined,
  });
  const kill = () => {
    if (running.pid !== undefined) sendSignal(-running.pid, "SIGKILL");
  };
  if (signal?.aborted === true) kill();
  signal?.addEventListener("abort", kill, { once: true });
  const result = await running;
  signal?.removeEventListener("abort", kill);
  if (result.exitCode === undefined && result.signal === undefined) {
    throw new SpawnError(file, { cause: result.cause });
  }
  return {
    code: result.exitCode,
    signal: result.signal as NodeJS.Signals | undefined,
    stdout: result.stdout,
    stderr: result.stderr,
  };
}
