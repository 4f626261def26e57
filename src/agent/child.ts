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
  /** How long it may take to say its first word. Default: no longer than any later silence. */
  readonly startMs?: number;
  readonly clock?: Clock;
}

interface LifeEnd {
  readonly how: string;
  /** It never said a word. */
  readonly mute: boolean;
}

/** A child process that is replaced when it dies or falls silent. Disposing it ends it, and all that it started. */
export interface Child<Order> extends AsyncDisposable {
  /** The pid of the process at hand. */
  readonly pid: number | undefined;
  /** To the process at hand; lost while there is none, which is what `greeting` is for. */
  send(order: Order): void;
  /** Kills the process at hand: another one follows. */
  replace(): void;
}

export const pingEveryMs = 3_000;
export const silenceMs = 30_000;
const pauseMs = 200;
/** Lives in a row that end so soon mean that it can't run here. */
const shortLifeMs = 10_000;
const maxShortLives = 8;
/** Lives in a row without a word mean the same, sooner. */
const maxMuteLives = 3;
/** Everything that a life of a child starts carries it. */
const lifeName = "EH_CHILD_LIFE";

export function keepChild<Order extends Message, Report extends Message>(
  options: ChildOptions<Order, Report>,
): Child<Order> {
  const { clock = systemClock } = options;
  const closing = new AbortController();
  let current: ChildGroup | undefined;

  const write = (order: Order | { type: "ping"; n: number }): void => {
    if (current?.stdin?.writable === true) current.stdin.write(`${JSON.stringify(order)}\n`);
  };

  async function live(): Promise<LifeEnd> {
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
    let mute = true;
    let n = 0;
    const pulse = setInterval(() => {
      const limitMs = mute ? (options.startMs ?? silenceMs) : silenceMs;
      if (clock.monotonic() - heardAt > limitMs) group.signal("SIGKILL");
      else write({ type: "ping", n: ++n });
    }, pingEveryMs);
    try {
      for (const order of options.greeting()) write(order);
      const reading = readReports(group, options, () => {
        heardAt = clock.monotonic();
        mute = false;
      });
      // Closing ends its stdin, which asks it to stop what it has started.
      const asked = () => group.stdin?.end();
      closing.signal.addEventListener("abort", asked, { once: true });
      if (closing.signal.aborted) asked();
      const exit = await endOf(group);
      await reading;
      closing.signal.removeEventListener("abort", asked);
      return { how: describeExit(exit), mute };
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
      await clock.sleep(options.closeGraceMs, over.signal);
      await group.stop({ graceMs: options.closeGraceMs });
    };
    const ending = late().catch(() => {});
    const exit = await group.exited;
    over.abort();
    await ending;
    return exit;
  }

  async function keep(): Promise<void> {
    let shortLives = 0;
    let muteLives = 0;
    while (!closing.signal.aborted) {
      const startedAt = clock.monotonic();
      const { how, mute } = await live();
      if (closing.signal.aborted) return;
      shortLives = clock.monotonic() - startedAt < shortLifeMs ? shortLives + 1 : 0;
      muteLives = mute ? muteLives + 1 : 0;
      if (shortLives >= maxShortLives || muteLives >= maxMuteLives) {
        const lives = Math.max(shortLives, muteLives);
        throw new Error(`The ${options.name} ended ${lives} times in a row, at last by ${how}`);
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
    replace: () => {
      current?.signal("SIGKILL");
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
  void group.exited.then(() => setTimeout(() => lines.close(), 100).unref());
  for await (const line of lines) {
    heard();
    let report: Report;
    try {
      report = options.parse(JSON.parse(line));
    } catch {
      // A line cut by its death.
      continue;
    }
    if (report.type !== "pong") options.onReport(report);
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
