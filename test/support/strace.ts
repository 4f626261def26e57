/** strace(1): watches a process's calls to the file system, or refuses them, and the process knows nothing of it. */
import { execFileSync } from "node:child_process";
import { readdir, readFile } from "node:fs/promises";
import type { TestContext } from "node:test";
import { startGroup } from "../../src/base/spawn.ts";
import { skip } from "./require.ts";
import { temporaryDirectory } from "./temporary.ts";
import { until } from "./until.ts";

/** Calls that change what is stored, by what we call them; strace's names differ between architectures. */
export const storingCalls = {
  write: ["write", "pwrite64", "writev", "pwritev"],
  fsync: ["fsync", "fdatasync"],
  rename: ["rename", "renameat", "renameat2"],
  link: ["link", "linkat"],
  create: ["open", "openat", "creat"],
  mkdir: ["mkdir", "mkdirat"],
  remove: ["unlink", "unlinkat", "rmdir"],
  list: ["getdents64"],
} as const;
export type StoringCall = keyof typeof storingCalls;

export interface TracedCall {
  /** Of the thread. */
  readonly pid: number;
  readonly call: StoringCall;
  /** Absolute paths among its arguments and of their descriptors, in order; of `create`: only if it may create. */
  readonly paths: readonly string[];
  /** What strace prints after `=`: a number, and for errors their name. Undefined: it never returned. */
  readonly result: string | undefined;
  /** It was not made: strace answered for the system. */
  readonly refused: boolean;
}

/** Refuses calls of one kind that the traced threads make on the traced paths. */
export interface Refusal {
  readonly call: StoringCall;
  /** errno's name. */
  readonly error: string;
  /** The first one, counted from 1 in each thread. */
  readonly from: number;
  /** The last one; undefined: from then on all. */
  readonly to?: number;
}

export interface TraceOptions {
  /** Default: all of `storingCalls` but `list`. */
  readonly calls?: readonly StoringCall[];
  /** Whole paths; default: all. */
  readonly paths?: readonly string[];
  readonly refuse?: Refusal;
}

/** A trace in progress. Disposing it lets the traced process go on alone. */
export interface Trace extends AsyncDisposable {
  /** What was seen, once the traced process, or the trace, has ended. */
  calls(): Promise<TracedCall[]>;
}

/** False after the test was skipped (an error where skips are forbidden): there is no strace, or it may not trace here. */
export function requireStrace(t: TestContext): boolean {
  try {
    execFileSync("strace", ["-o", "/dev/null", "true"], { stdio: "pipe" });
    return true;
  } catch {
    skip(t, "strace is not installed, or may not trace here (apt-get install strace)");
    return false;
  }
}

/** The words before a program that make strace start and watch it, with all that it starts. */
export function straceCommand(log: string, options: TraceOptions = {}): string[] {
  return ["strace", "-f", "--seccomp-bpf", ...straceArguments(log, options)];
}

/** Watches all threads that a process has now, and none that it starts later. Returns when it is watched. */
export async function attachStrace(pid: number, options: TraceOptions): Promise<Trace> {
  const directory = await temporaryDirectory("eval-hive-strace-");
  const log = `${directory.path}/log`;
  const threads = await readdir(`/proc/${pid}/task`);
  const group = await startGroup(
    "strace",
    [...straceArguments(log, options), ...threads.flatMap((thread) => ["-p", thread])],
    { env: process.env, stderr: "pipe" },
  );
  let said = "";
  group.stderr?.setEncoding("utf8").on("data", (text: string) => {
    said += text;
  });
  await until(() => said.split(" attached").length > threads.length, {
    what: `strace watches ${threads.length} threads`,
  });
  return {
    calls: async () => {
      await group.exited;
      return parseTrace(await readFile(log, "utf8"));
    },
    [Symbol.asyncDispose]: async () => {
      // It detaches; SIGKILL would leave its tracees to the kernel in the middle of a call.
      await group.stop({ graceMs: 10_000, signal: "SIGINT" });
      await directory[Symbol.asyncDispose]();
    },
  };
}

function straceArguments(log: string, options: TraceOptions): string[] {
  const { refuse, paths = [] } = options;
  const defaults = Object.keys(storingCalls).filter((call) => call !== "list") as StoringCall[];
  const names = (options.calls ?? defaults).flatMap((call) => storingCalls[call]);
  // A name with a question mark may be unknown to this architecture.
  const set = (calls: readonly string[]) => calls.map((name) => `?${name}`).join(",");
  return [
    ...["-y", "-s", "0", "-o", log, "-e", "signal=none", "-e", `trace=${set(names)}`],
    ...paths.flatMap((path) => ["-P", path]),
    ...(refuse === undefined
      ? []
      : [
          "-e",
          `inject=${set(storingCalls[refuse.call])}:error=${refuse.error}:when=${refuse.from}${
            refuse.to === undefined ? "+" : `..${refuse.to}`
          }`,
        ]),
  ];
}

const kinds = new Map<string, StoringCall>(
  (Object.entries(storingCalls) as [StoringCall, readonly string[]][]).flatMap(([kind, names]) =>
    names.map((name) => [name, kind] as const),
  ),
);

/** The calls of a log of `strace -f -y`, in the order in which they began; those of other kinds are left out. */
export function parseTrace(log: string): TracedCall[] {
  const calls: { -readonly [Key in keyof TracedCall]: TracedCall[Key] }[] = [];
  const unfinished = new Map<number, (typeof calls)[number]>();
  for (const line of log.split("\n")) {
    // Of a single thread there is no number.
    const begun = /^(?:(\d+) +)?(\w+)\((.*)$/.exec(line);
    if (begun !== null) {
      const [, pid = "0", name = "", rest = ""] = begun;
      const call = kinds.get(name);
      if (call === undefined || (call === "create" && !/O_CREAT|^"/.test(rest))) continue;
      const [args = "", result] = rest.split(/\) += /);
      const one = { pid: Number(pid), call, paths: pathsIn(args), ...resultOf(result) };
      calls.push(one);
      if (result === undefined) unfinished.set(one.pid, one);
      continue;
    }
    const resumed = /^(\d+) +<\.\.\. \w+ resumed>.*\) += (.*)$/.exec(line);
    if (resumed === null) continue;
    const one = unfinished.get(Number(resumed[1]));
    if (one !== undefined) Object.assign(one, resultOf(resumed[2]));
    unfinished.delete(Number(resumed[1]));
  }
  return calls;
}

function resultOf(text: string | undefined): Pick<TracedCall, "result" | "refused"> {
  const result = text?.replace(/<.*>/, "").replace(/ \(.*$/, "");
  return { result, refused: text?.includes("(INJECTED)") === true };
}

function pathsIn(args: string): string[] {
  // Of `AT_FDCWD</directory>` only the path that follows says something.
  return [...args.matchAll(/"(\/(?:[^"\\]|\\.)*)"|\b\d+<(\/[^>]*)>/g)].map(
    ([, quoted, descriptor]) => quoted ?? descriptor ?? "",
  );
}
