import { spawn } from "node:child_process";
import { once } from "node:events";
import { text } from "node:stream/consumers";

/** What one run of a program cost, its children that ended before it included. */
export interface CommandCost {
  readonly wall_s: number;
  /** User and system time together. */
  readonly cpu_s: number;
}

/**
 * Runs a program to its end and takes its time, to the millisecond. Its output is thrown away, its messages are shown.
 * @throws when it fails.
 */
export async function timeCommand(
  program: string,
  args: readonly string[] = [],
  options: { readonly cwd?: string; readonly env?: NodeJS.ProcessEnv } = {},
): Promise<CommandCost> {
  // Only the parent that waited is told a process's CPU time, and Node does not pass it on: bash does.
  const script = 'TIMEFORMAT="%R %U %S"; { time "$@" 2>&4; } 4>&2 2>&3';
  const bash = spawn("bash", ["-c", script, "bash", program, ...args], {
    ...options,
    stdio: ["ignore", "ignore", "inherit", "pipe"],
  });
  const times = bash.stdio[3];
  if (times === null || times === undefined) throw new TypeError("no pipe for the times");
  const [[code], written] = await Promise.all([once(bash, "close"), text(times as never)]);
  if (code !== 0) throw new Error(`${program} ${args.join(" ")} ended with ${code}`);
  const [wall = Number.NaN, user = 0, system = 0] = written.trim().split(" ").map(Number);
  return { wall_s: wall, cpu_s: user + system };
}
