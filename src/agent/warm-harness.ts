import { type Clock, secondsSince, systemClock } from "../base/clock.ts";
import { EnvironmentError, errnoAdvice, messageOf } from "../base/errors.ts";
import { SpawnError } from "../base/spawn.ts";
import {
  HarnessMessage,
  type HarnessRequest,
  type HarnessVersions,
  type RunRequest,
} from "../lmeval/protocol.ts";
import { ChildLostError, type ChildOptions, keepChild } from "./child.ts";

type Hello = Extract<HarnessMessage, { type: "hello" }>;
type RunMessage = Extract<HarnessMessage, { id: string; leaf: string }>;
type Ended = Extract<HarnessMessage, { type: "ended" }>;
type RunError = Extract<HarnessMessage, { type: "error" }>;

/** The last word on a run request. */
export type RunEnd =
  | { readonly kind: "ended"; readonly ended: Ended }
  /** It could not be carried out at all. */
  | { readonly kind: "error"; readonly error: RunError }
  /** The harness died under it; the next one is on its way. */
  | { readonly kind: "lost" };

export interface RunOptions {
  readonly onMessage: (message: RunMessage) => void;
  readonly signal: AbortSignal;
  /** When the model may be asked; never, should it bring undefined. Without it: at once. */
  readonly turn?: Promise<number | undefined> | undefined;
}

/** What a slot asks of the harness. */
export interface BatchHarness {
  /**
   * Evaluates leaves in a child, as soon as a harness is ready. Messages about leaves come in order, before the end.
   * Aborting ends the child; the end is waited for.
   */
  run(request: Omit<RunRequest, "type" | "held">, options: RunOptions): Promise<RunEnd>;
}

export interface WarmHarness extends BatchHarness, AsyncDisposable {}

export interface WarmHarnessOptions
  extends Pick<
    ChildOptions<HarnessRequest, HarnessMessage>,
    "file" | "args" | "env" | "cwd" | "logFd" | "log" | "onGivenUp"
  > {
  /** Those of the plan; a harness with another lm_eval is refused. */
  readonly versions: HarnessVersions;
  readonly onHello: (hello: Hello, startS: number) => void;
  /** One has ended. @param cpuS what it and its children have cost; undefined when it was killed. */
  readonly onEnd: (pid: number, how: string, cpuS: number | undefined) => void;
  readonly clock?: Clock;
}

/** Importing lm_eval from a cold network file system takes its time. */
const startMs = 900_000;
/** The harness ends a child by TERM, and by KILL 2 s later; one that does not manage is replaced. */
const cancelMs = 8_000;

const asPlanned = "Use the Python that the run was planned with, or plan again with --update.";

interface Running {
  readonly onMessage: (message: RunMessage) => void;
  readonly end: (end: RunEnd) => void;
}

/** Keeps a harness warm: lm_eval imported once, a child per run request. */
export function openWarmHarness(options: WarmHarnessOptions): WarmHarness {
  const { clock = systemClock } = options;
  const running = new Map<string, Running>();
  let ready = Promise.withResolvers<void>();
  let isReady = false;
  let startedAt = clock.monotonic();
  let cpuS: number | undefined;

  function greet(hello: Hello): void {
    const refusal = refuseVersions(options.versions, hello.versions);
    if (refusal !== undefined) {
      options.onGivenUp(refusal);
      return;
    }
    options.onHello(hello, secondsSince(clock, startedAt));
    isReady = true;
    ready.resolve();
  }

  function hear(message: HarnessMessage): void {
    if (message.type === "hello") {
      greet(message);
      return;
    }
    if (message.type === "goodbye") cpuS = message.cpu_s;
    if (!("id" in message)) return;
    if (message.type === "error" && message.id === "") {
      options.onGivenUp(
        new EnvironmentError("harness.start", `Cannot start the harness: ${message.message}`, {
          hint: asPlanned,
        }),
      );
      return;
    }
    const run = running.get(message.id);
    if (message.type === "ended") run?.end({ kind: "ended", ended: message });
    else if (message.type === "error") run?.end({ kind: "error", error: message });
    else if ("leaf" in message) run?.onMessage(message);
  }

  const child = keepChild<HarnessRequest, HarnessMessage>({
    ...options,
    name: "harness",
    onGivenUp: (error) => options.onGivenUp(explainLoss(error)),
    parse: (line) => HarnessMessage.parse(line),
    greeting: () => {
      startedAt = clock.monotonic();
      cpuS = undefined;
      return [];
    },
    onReport: hear,
    onEnd: (pid, how) => {
      // Whoever waits for one that died on its way waits for the next one.
      if (isReady) ready = Promise.withResolvers();
      isReady = false;
      for (const run of running.values()) run.end({ kind: "lost" });
      options.onEnd(pid, how, cpuS);
    },
    startMs,
    // It obeys at once, unless it still imports; then nobody needs it.
    closeGraceMs: 1_000,
  });

  return {
    run: async (request, { onMessage, signal, turn }) => {
      if (!(await race(ready.promise, signal))) return { kind: "lost" };
      const { promise, resolve: end } = Promise.withResolvers<RunEnd>();
      running.set(request.id, { onMessage, end });
      const over = new AbortController();
      const cancel = (): void => {
        child.send({ type: "cancel", id: request.id });
        clock.sleep(cancelMs, over.signal).then(
          () => child.replace(),
          () => {},
        );
      };
      signal.addEventListener("abort", cancel, { once: true });
      try {
        child.send({ type: "run", ...request, held: turn !== undefined });
        void turn?.then((slot) => {
          if (slot !== undefined && running.has(request.id))
            child.send({ type: "go", id: request.id });
        });
        if (signal.aborted) cancel();
        return await promise;
      } finally {
        signal.removeEventListener("abort", cancel);
        over.abort();
        running.delete(request.id);
      }
    },
    [Symbol.asyncDispose]: () => child[Symbol.asyncDispose](),
  };
}

/** A Python that is not there any more has another way out than one that dies. */
function explainLoss(error: Error): Error {
  if (!(error instanceof ChildLostError && error.cause instanceof SpawnError)) return error;
  const why = errnoAdvice(error.cause.cause) ?? messageOf(error.cause.cause);
  return new EnvironmentError("harness.start", `${error.cause.message}, the run's Python: ${why}`, {
    cause: error,
    hint: asPlanned,
  });
}

/** Waits for the promise. @returns false when the signal aborts first. */
async function race(promise: Promise<void>, signal: AbortSignal): Promise<boolean> {
  if (signal.aborted) return false;
  const { promise: aborted, resolve } = Promise.withResolvers<boolean>();
  const abort = () => resolve(false);
  signal.addEventListener("abort", abort, { once: true });
  try {
    return await Promise.race([promise.then(() => true), aborted]);
  } finally {
    signal.removeEventListener("abort", abort);
  }
}

function refuseVersions(
  planned: HarnessVersions,
  found: HarnessVersions,
): EnvironmentError | undefined {
  if (planned.lm_eval === found.lm_eval && planned.lm_eval_sha256 === found.lm_eval_sha256) {
    return undefined;
  }
  const what =
    planned.lm_eval === found.lm_eval
      ? `lm_eval ${found.lm_eval} here has other files than when the run was planned`
      : `lm_eval ${found.lm_eval} here, the run was planned with ${planned.lm_eval}`;
  return new EnvironmentError("harness.version", `Cannot evaluate: ${what}`, {
    hint: asPlanned,
  });
}
