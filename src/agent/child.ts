import { randomBytes } from "node:crypto";
import { createInterface } from "node:readline";
import { type Clock, systemClock } from "../base/clock.ts";
import { EnvironmentError, messageOf } from "../base/errors.ts";
import type { Logger } from "../base/log.ts";
import { processesWithEnvironment, sendSignal } from "../base/proc.ts";
import { type ChildGroup, describeExit, SpawnError, startGroup } from "../base/spawn.ts";

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
  readonly log: Logger;
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

/** Thrown when a child can't be started, or dies again and again. */
export class ChildLostError extends EnvironmentError {
  constructor(name: string, state: string, options?: ErrorOptions) {
    super("agent.child-lost", `Cannot keep the ${name} running: ${state}`, {
      ...options,
      hint: "Look at the end of the agent's log; is the machine out of memory or processes?",
    });
  }
}

/** What has been heard of one life of a child. */
interface Voice {
  /** It has not said a word yet. */
  mute: boolean;
  /** Since its last word, as far as this process was awake to listen. */
  silentMs: number;
}

interface LifeEnd {
  readonly how: string;
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

const pingEveryMs = 3_000;
const silenceMs = 30_000;
const pauseMs = 200;
/** Lives in a row that end so soon mean that it can't run here. */
const shortLifeMs = 10_000;
const maxShortLives = 8;
/** Lives in a row without a word mean the same, sooner. */
const maxMuteLives = 3;
/** How long the last words of a dead child may take, when somebody unknown holds its pipe. */
const lastWordsMs = 1_000;
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
    const voice: Voice = { mute: true, silentMs: 0 };
    const reports = readReports(group, options, voice);
    for (const order of options.greeting()) write(order);
    const over = new AbortController();
    const watching = [listen(group, voice, over.signal), endOnClosing(group, over.signal)];
    const how = describeExit(await group.exited);
    current = undefined;
    over.abort();
    await Promise.all(watching);
    await group.stop({ graceMs: 0 });
    await killLife(life);
    await reports.finish();
    options.onEnd(group.pid, how);
    return { how, mute: voice.mute };
  }

  /** Pings it, and kills it when it has been silent for too long. */
  async function listen(group: ChildGroup, voice: Voice, over: AbortSignal): Promise<void> {
    let lookedAt = clock.monotonic();
    for (let n = 1; await slept(clock, pingEveryMs, over); n++) {
      const now = clock.monotonic();
      // Whatever this process has slept through itself is nobody's silence.
      voice.silentMs += Math.min(now - lookedAt, 2 * pingEveryMs);
      lookedAt = now;
      const limitMs = voice.mute ? (options.startMs ?? silenceMs) : silenceMs;
      if (voice.silentMs > limitMs) group.signal("SIGKILL");
      else write({ type: "ping", n });
    }
  }

  /** The end of its stdin asks it to stop what it has started; signals follow when it takes too long. */
  async function endOnClosing(group: ChildGroup, over: AbortSignal): Promise<void> {
    if (!(await happens(closing.signal, over))) return;
    group.stdin?.end();
    if (!(await slept(clock, options.closeGraceMs, over))) return;
    await group.stop({ graceMs: options.closeGraceMs });
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
        const state = `it ended ${lives} times in a row, at last by ${how}`;
        throw new ChildLostError(options.name, state);
      }
      if (shortLives > 1) await slept(clock, pauseMs * shortLives, closing.signal);
    }
  }

  const kept = keep().catch((error: unknown) => {
    if (error instanceof SpawnError) {
      const state = `${error.message}: ${messageOf(error.cause)}`;
      options.onGivenUp(new ChildLostError(options.name, state, { cause: error }));
    } else {
      options.onGivenUp(error instanceof Error ? error : new Error(messageOf(error)));
    }
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

/** Hands on what a child says. `finish`: once nothing of it is left, waits for its last words. */
function readReports<Order extends Message, Report extends Message>(
  { stdout }: ChildGroup,
  options: ChildOptions<Order, Report>,
  voice: Voice,
): { finish(): Promise<void> } {
  if (stdout === undefined) throw new TypeError("A child needs a stdout to speak");
  const lines = createInterface({ input: stdout });
  const ended = new Promise<void>((resolve) => lines.once("close", resolve));
  lines.on("line", (line) => {
    voice.mute = false;
    voice.silentMs = 0;
    let report: Report;
    try {
      report = options.parse(JSON.parse(line));
    } catch (error) {
      // Its death cuts a line; anything else is a fault of the two that speak.
      const said = line.slice(0, 500);
      options.log.warn({ child: options.name, said, error: messageOf(error) }, "not understood");
      return;
    }
    try {
      if (report.type !== "pong") options.onReport(report);
    } catch (error) {
      options.onGivenUp(error instanceof Error ? error : new Error(messageOf(error)));
    }
  });
  return {
    finish: async () => {
      const over = new AbortController();
      void slept(systemClock, lastWordsMs, over.signal).then(() => lines.close());
      await ended;
      over.abort();
      stdout.destroy();
    },
  };
}

/** Ends what a dead child has left, in whatever group. Processes end in real time, whatever clock is injected. */
async function killLife(life: string): Promise<void> {
  for (let tries = 0; tries < 500; tries++) {
    const pids = await processesWithEnvironment(lifeName, life);
    if (pids.length === 0) return;
    for (const pid of pids) sendSignal(pid, "SIGKILL");
    await systemClock.sleep(20);
  }
}

/** @returns false when the signal aborted first. */
async function slept(clock: Clock, ms: number, signal: AbortSignal): Promise<boolean> {
  return await clock.sleep(ms, signal).then(
    () => true,
    () => false,
  );
}

/** Waits for `event`. @returns false when `over` aborts first. */
async function happens(event: AbortSignal, over: AbortSignal): Promise<boolean> {
  if (!event.aborted) {
    const either = AbortSignal.any([event, over]);
    await new Promise((resolve) => {
      if (either.aborted) resolve(undefined);
      either.addEventListener("abort", resolve, { once: true });
    });
  }
  return event.aborted;
}
