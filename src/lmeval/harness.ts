import { join } from "node:path";
import { EnvironmentError } from "../base/errors.ts";
import { LineSplitter } from "../base/line-splitter.ts";
import { type ChildGroup, describeExit, type Exit, SpawnError, startGroup } from "../base/spawn.ts";
import {
  HarnessMessage,
  type HarnessRequest,
  type Planned,
  type PlanRequest,
  type RunRequest,
} from "./protocol.ts";

export type Hello = Extract<HarnessMessage, { type: "hello" }>;
export type RunEnded = Extract<HarnessMessage, { type: "ended" }>;
type Refusal = Extract<HarnessMessage, { type: "error" }>;
/** What a run says before its `ended`. */
export type RunMessage = Exclude<
  HarnessMessage,
  { type: "hello" | "pong" | "goodbye" | "planned" | "ended" }
>;

export interface HarnessOptions {
  /** The Python to use, with whatever has to stand before it: `["singularity", "exec", "lm.sif", "python3"]`. */
  readonly argv: readonly string[];
  /** The folder that holds the package `eval_hive_harness`. */
  readonly harnessDirectory: string;
  /** The whole environment of the parent. HF_* and the like have to be here: libraries read them when imported. */
  readonly env: NodeJS.ProcessEnv;
  readonly cwd?: string;
  /** It will be asked for plans alone: it is there in a fifth of the time. */
  readonly planOnly?: boolean;
  /** Gets what the parent writes to stderr; the children have their own logs. */
  readonly stderr?: (text: string) => void;
  /** From the start to `hello`. Default: 300 s, since importing from a busy network file system takes its time. */
  readonly startTimeoutMs?: number;
  /** Aborting kills the parent; whatever waits for it rejects with the signal's reason. */
  readonly signal?: AbortSignal;
}

/** One batch in a child of the harness. */
export interface HarnessRun {
  readonly id: string;
  /** The last word. Rejects with HarnessLostError when the parent dies first. */
  readonly ended: Promise<RunEnded>;
  /** One that is held may ask the model. */
  go(): void;
  /** Ends the child at once; `ended` follows. */
  cancel(): void;
}

/** The Python process that has lm_eval imported. Disposing it ends it with all its children. */
export interface Harness extends AsyncDisposable {
  readonly hello: Hello;
  /** Settles when the parent has ended; never rejects. */
  readonly exited: Promise<Exit>;
  /** The last lines that the parent wrote to stderr. */
  stderrTail(): string;
  /** @throws {PlanError} when it can't be planned, {HarnessLostError} when the parent dies. */
  plan(request: Omit<PlanRequest, "type" | "id">): Promise<Planned>;
  /** Starts a batch. `onMessage` gets all that is said about it, in order, before `ended` settles. */
  run(
    request: Omit<RunRequest, "type" | "id">,
    onMessage: (message: RunMessage) => void,
  ): HarnessRun;
  /** Resolves when the parent answers. @throws {HarnessLostError} when it dies instead. */
  ping(): Promise<void>;
  /** Kills the parent, which takes its children with it: for one that no longer answers. */
  kill(): void;
}

/** Thrown when the harness ends, or says something that we don't understand, while an answer is outstanding. */
export class HarnessLostError extends Error {
  constructor(reason: string, stderrTail: string) {
    super(`The harness ${reason}${stderrTail === "" ? "" : `; its last words:\n${stderrTail}`}`);
    this.name = "HarnessLostError";
  }
}

/** Thrown when the harness can't make a plan of the suites: a broken task file, an include path that is not there. */
export class PlanError extends EnvironmentError {
  readonly refusal: Refusal;

  constructor(refusal: Refusal) {
    super("harness.plan-failed", `Cannot plan the tasks: ${refusal.message}`, {
      cause: new Error(refusal.trace_tail.join("\n")),
    });
    this.refusal = refusal;
  }
}

const stderrTailCharacters = 4_000;
const stopGraceMs = 5_000;

/**
 * Starts the harness and waits until it has everything imported.
 * @throws {EnvironmentError} when Python or lm_eval is missing, too old, or does not start.
 */
export async function startHarness(options: HarnessOptions): Promise<Harness> {
  const [file, ...args] = options.argv;
  if (file === undefined) throw new RangeError("A harness needs a command");
  options.signal?.throwIfAborted();
  let child: ChildGroup;
  try {
    child = await startGroup(
      file,
      // -B: the folder may be shared, read-only, or named after its content.
      [
        ...args,
        "-B",
        join(options.harnessDirectory, "eval_hive_harness", "__main__.py"),
        ...(options.planOnly === true ? ["--plan"] : []),
      ],
      {
        env: options.env,
        stdin: "pipe",
        stdout: "pipe",
        stderr: "pipe",
        ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
      },
    );
  } catch (error) {
    if (!(error instanceof SpawnError)) throw error;
    throw new EnvironmentError("harness.no-python", `Cannot start Python: "${file}" can't be run`, {
      cause: error,
      hint: 'Name the Python that has lm_eval: --python, EVAL_HIVE_PYTHON, or "harness_command" in the config.',
    });
  }
  const connection = new Connection(child, options);
  try {
    await connection.start(options.startTimeoutMs ?? 300_000);
  } catch (error) {
    await connection[Symbol.asyncDispose]();
    throw error;
  }
  return connection;
}

/** Whoever waits for messages that carry a certain id. */
interface Listener {
  receive(message: HarnessMessage): void;
  lose(error: Error): void;
}

class Connection implements Harness {
  readonly exited: Promise<Exit>;
  readonly #child: ChildGroup;
  readonly #command: string;
  readonly #listeners = new Map<string, Listener>();
  #hello: Hello | undefined;
  readonly #onStderr: ((text: string) => void) | undefined;
  #stderr = "";
  #count = 0;
  #lost: Error | undefined;
  readonly #unlisten: () => void;

  constructor(child: ChildGroup, options: HarnessOptions) {
    this.#child = child;
    this.#command = options.argv.join(" ");
    this.exited = child.exited;
    this.#onStderr = options.stderr;
    child.stderr?.setEncoding("utf8").on("data", (text: string) => this.#keep(text));
    if (child.stdout === undefined) throw new TypeError("The harness has no stdout");
    // A plan is a line of megabytes.
    const lines = new LineSplitter();
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      for (const line of lines.push(text)) this.#read(line);
    });
    // After the last line: what a dying harness has said counts.
    const { stdout } = child;
    const allRead = new Promise<void>((resolve) => stdout.once("close", resolve));
    Promise.all([child.exited, allRead])
      .then(([exit]) => this.#lose(`ended with ${describeExit(exit)}`))
      .catch(() => {});
    const { signal } = options;
    const abort = () => {
      this.#fail(signal?.reason as Error);
      this.kill();
    };
    signal?.addEventListener("abort", abort, { once: true });
    if (signal?.aborted === true) abort();
    this.#unlisten = () => signal?.removeEventListener("abort", abort);
  }

  get hello(): Hello {
    if (this.#hello === undefined) throw new TypeError("The harness has not said hello");
    return this.#hello;
  }

  stderrTail(): string {
    return this.#stderr.trim();
  }

  /** Waits for `hello`, which has no id; nor has the error that comes instead. */
  async start(timeoutMs: number): Promise<void> {
    const { promise, listener } = this.#answer("");
    const timer = setTimeout(() => {
      listener.lose(
        new EnvironmentError(
          "harness.start-timeout",
          `Cannot start the harness: "${this.#command}" has not imported lm_eval in ${timeoutMs / 1000} s`,
          { hint: "Is the file system with this Python very slow? Try: python -X importtime" },
        ),
      );
    }, timeoutMs);
    try {
      const message = await promise;
      if (message.type === "hello") this.#hello = message;
      else if (message.type === "error") {
        throw new EnvironmentError(
          "harness.no-lm-eval",
          `Cannot start the harness: ${message.message}`,
          {
            hint: 'Name the Python that has lm_eval: --python, EVAL_HIVE_PYTHON, or "harness_command" in the config.',
          },
        );
      }
    } catch (error) {
      if (!(error instanceof HarnessLostError)) throw error;
      throw new EnvironmentError(
        "harness.start-failed",
        `Cannot start the harness with "${this.#command}": ${error.message}`,
        { cause: error },
      );
    } finally {
      clearTimeout(timer);
    }
  }

  async plan(request: Omit<PlanRequest, "type" | "id">): Promise<Planned> {
    const id = this.#nextId("plan");
    const { promise } = this.#answer(id);
    this.#send({ type: "plan", id, ...request });
    const message = await promise;
    if (message.type === "planned") return message;
    if (message.type === "error") throw new PlanError(message);
    throw new TypeError(`The harness answered a plan with "${message.type}"`);
  }

  run(
    request: Omit<RunRequest, "type" | "id">,
    onMessage: (message: RunMessage) => void,
  ): HarnessRun {
    const id = this.#nextId("run");
    const { promise, resolve, reject } = Promise.withResolvers<RunEnded>();
    // A run whose end nobody awaits is no bug of theirs.
    promise.catch(() => {});
    this.#listen(id, {
      receive: (message) => {
        if (message.type === "ended") {
          this.#listeners.delete(id);
          resolve(message);
        } else onMessage(message as RunMessage);
      },
      lose: reject,
    });
    this.#send({ type: "run", id, ...request });
    return {
      id,
      ended: promise,
      go: () => this.#send({ type: "go", id }),
      cancel: () => this.#send({ type: "cancel", id }),
    };
  }

  async ping(): Promise<void> {
    const n = ++this.#count;
    const { promise } = this.#answer(`ping-${n}`);
    this.#send({ type: "ping", n });
    await promise;
  }

  kill(): void {
    this.#child.signal("SIGKILL");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#unlisten();
    this.#child.stdin?.end();
    await this.#child.stop({ graceMs: stopGraceMs });
  }

  #keep(text: string): void {
    this.#stderr = (this.#stderr + text).slice(-stderrTailCharacters);
    this.#onStderr?.(text);
  }

  #nextId(kind: string): string {
    return `${kind}-${++this.#count}`;
  }

  #send(request: HarnessRequest): void {
    this.#child.stdin?.write(`${JSON.stringify(request)}\n`);
  }

  /** The next message with this id. */
  #answer(id: string): { promise: Promise<HarnessMessage>; listener: Listener } {
    const { promise, resolve, reject } = Promise.withResolvers<HarnessMessage>();
    const listener = {
      receive: (message: HarnessMessage) => {
        this.#listeners.delete(id);
        resolve(message);
      },
      lose: reject,
    };
    this.#listen(id, listener);
    return { promise, listener };
  }

  #listen(id: string, listener: Listener): void {
    if (this.#lost === undefined) this.#listeners.set(id, listener);
    else listener.lose(this.#lost);
  }

  #read(line: string): void {
    let message: HarnessMessage;
    try {
      message = HarnessMessage.parse(JSON.parse(line));
    } catch {
      // What stands before Python in a command may greet whoever starts it.
      if (this.#hello === undefined && !line.startsWith('{"type":')) {
        this.#keep(`${line}\n`);
        return;
      }
      this.#lose(`said something that is not in its protocol: ${line.slice(0, 500)}`);
      this.kill();
      return;
    }
    if (message.type !== "goodbye") this.#listeners.get(idOf(message))?.receive(message);
  }

  #lose(reason: string): void {
    this.#fail(new HarnessLostError(reason, this.stderrTail()));
  }

  #fail(error: Error): void {
    if (this.#lost !== undefined) return;
    this.#lost = error;
    for (const listener of this.#listeners.values()) listener.lose(error);
    this.#listeners.clear();
  }
}

function idOf(message: Exclude<HarnessMessage, { type: "goodbye" }>): string {
  switch (message.type) {
    case "hello":
      return "";
    case "pong":
      return `ping-${message.n}`;
    default:
      return message.id;
  }
}
