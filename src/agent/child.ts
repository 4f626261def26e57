import { randomBytes } from "node:crypto";
import { createInterface } from "node:readline";
import { type Clock, systemClock } from "../base/clock.ts";
import { messageOf } from "../base/errors.ts";
import { processesWithEnvironment, sendSignal } from "../base/proc.ts";
import { type ChildGroup, describeExit, startGroup } from "../base/spawn.ts";

/** A message to a child or from it. */
interface Message {
  readonly type: string;
}

export interface ChildOptions<Order extends Message, Report extends Message> {
  /** For messages. */
  readonly name: string;
  readonly file: string;
  readonly args: readonly string[];
  readonly env: NodeJS.ProcessEnv;
  readonly cwd: string;
  /** Its stderr is appended here. */
  readonly logFd: number;
  readonly parse: (line: unknown) => Report;
  /** What every new process is told first. */
  readonly greeting: () => readonly Order[];
  readonly onReport: (report: Report) => void;
  /** A process has ended and nothing of it is left; another one follows unless the child is being closed. */
  readonly onEnd: (pid: number, how: string) => void;
  /** It can't be kept alive. */
  readonly onGivenUp: (error: Error) => void;
  /** From the end of its stdin to SIGTERM, and from there to SIGKILL. */
  readonly closeGraceMs: number;
  readonly clock?: Clock;
}

/** A child process that is replaced when it dies or falls silent. Disposing it ends it, and all that it started. */
export interface Child<Order> extends AsyncDisposable {
  /** The pid of the process at hand. */
  readonly pid: number | undefined;
  /** To the process at hand; lost while there is none, which is what `greeting` is for. */
  send(order: Order): void;
  /** Ends it without waiting for its own end. */
  kill(): Promise<void>;
}

export const pingEveryMs = 3_000;
export const silenceMs = 30_000;
const pauseMs = 200;
/** Lives in a row that end so soon mean that it can't run here. */
const shortLifeMs = 10_000;
const maxShortLives = 8;
/** Everything that a life of a child starts carries it. */
const lifeName = "EH_CHILD_LIFE";

export function keepChild<Order extends Message, Report extends Message>(
  options: ChildOptions<Order, Report>,
): Child<Order> {
  const { clock = systemClock } = options;
  const closing = new AbortController();
  let current: ChildGroup | undefined;
  let killing = false;

  const write = (order: Order | { type: "ping"; n: number }): void => {
    if (current?.stdin?.writable === true) current.stdin.write(`${JSON.stringify(order)}\n`);
  };

  async function live(): Promise<string> {
    const life = randomBytes(8).toString("hex");
    const group = await startGroup(options.file, options.args, {
      cwd: options.cwd,
      env: { ...options.env, [lifeName]: life },
      stdin: "pipe",
      stdout: "pipe",
      stderr: options.logFd,
    });
    current = group;
    let heardAt = clock.monotonic();
    let n = 0;
    const pulse = setInterval(() => {
      if (clock.monotonic() - heardAt > silenceMs) group.signal("SIGKILL");
      else write({ type: "ping", n: ++n });
    }, pingEveryMs);
    try {
      for (const order of options.greeting()) write(order);
      const reading = readReports(group, options, () => {
        heardAt = clock.monotonic();
      });
      // Closing ends its stdin, which asks it to stop what it has started.
      const asked = () => group.stdin?.end();
      closing.signal.addEventListener("abort", asked, { once: true });
      if (closing.signal.aborted) asked();
      const exit = await endOf(group);
      await reading;
      closing.signal.removeEventListener("abort", asked);
      return describeExit(exit);
    } finally {
      clearInterval(pulse);
      current = undefined;
      await group.stop({ graceMs: 0 });
      await killLife(life, clock);
      options.onEnd(group.pid, describeExit(await group.exited));
    }
  }

  /** Waits for its end; while closing, no longer than the grace. */
  async function endOf(group: ChildGroup): Promise<Awaited<ChildGroup["exited"]>> {
    const over = new AbortController();
    const late = async (): Promise<void> => {
      await aborted(closing.signal, over.signal);
      if (!killing) await clock.sleep(options.closeGraceMs, over.signal);
      await group.stop({ graceMs: killing ? 0 : options.closeGraceMs });
    };
    const ending = late().catch(() => {});
    const exit = await group.exited;
    over.abort();
    await ending;
    return exit;
  }

  async function keep(): Promise<void> {
    for (let shortLives = 0; !closing.signal.aborted; ) {
      const startedAt = clock.monotonic();
      const how = await live();
      if (closing.signal.aborted) return;
      shortLives = clock.monotonic() - startedAt < shortLifeMs ? shortLives + 1 : 0;
      if (shortLives >= maxShortLives) {
        throw new Error(`The ${options.name} ended ${shortLives} times in a row, at last by ${how}`);
      }
      if (shortLives > 1) await clock.sleep(pauseMs * shortLives, closing.signal).catch(() => {});
    }
  }

  const kept = keep().catch((error: unknown) => {
    options.onGivenUp(error instanceof Error ? error : new Error(messageOf(error)));
  });
  return {
    get pid() {
      return current?.pid;
    },
    send: write,
    kill: async () => {
      killing = true;
      closing.abort();
      current?.signal("SIGKILL");
      await kept;
    },
    [Symbol.asyncDispose]: async () => {
      closing.abort();
      await kept;
    },
  };
}

async function readReports<Order extends Message, Report extends Message>(
  group: ChildGroup,
  options: ChildOptions<Order, Report>,
  heard: () => void,
): Promise<void> {
  if (group.stdout === undefined) return;
  // A grandchild may hold the pipe: the end of the process is the end of its reports.
  const lines = createInterface({ input: group.stdout });
  group.exited.then(() => setTimeout(() => lines.close(), 100).unref());
  for await (const line of lines) {
    heard();
    try {
      const report = options.parse(JSON.parse(line));
      if (report.type !== "pong") options.onReport(report);
    } catch {
      // A line cut by its death.
    }
  }
}

/** Ends what a dead child has left, in whatever group. */
async function killLife(life: string, clock: Clock): Promise<void> {
  for (let tries = 0; tries < 500; tries++) {
    const pids = await processesWithEnvironment(lifeName, life);
    if (pids.length === 0) return;
    for (const pid of pids) sendSignal(pid, "SIGKILL");
    await clock.sleep(20);
  }
}

async function aborted(signal: AbortSignal, over: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  await new Promise<void>((resolve, reject) => {
    signal.addEventListener("abort", () => resolve(), { once: true });
    over.addEventListener("abort", () => reject(over.reason), { once: true });
  });
}
