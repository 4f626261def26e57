import { readdir, readFile, readlink } from "node:fs/promises";
import { errnoName } from "./errors.ts";
import { mapConcurrently } from "./map-concurrently.ts";

/** A process that can't be mistaken for a later one with the same pid: the start time is in clock ticks since boot. */
export interface ProcessIdentity {
  readonly pid: number;
  readonly startTime: string;
}

/** Fields of /proc/<pid>/stat after the command name, which may itself hold blanks and brackets (proc(5)). */
async function statFields(pid: number): Promise<readonly string[] | undefined> {
  try {
    const text = await readFile(`/proc/${pid}/stat`, "utf8");
    return text.slice(text.lastIndexOf(")") + 2).split(" ");
  } catch (error) {
    if (["ENOENT", "ESRCH"].includes(errnoName(error) ?? "")) return undefined;
    throw error;
  }
}

/** The start time of a process that runs; undefined when it is gone or a zombie. */
export async function processStartTime(pid: number): Promise<string | undefined> {
  const fields = await statFields(pid);
  if (fields === undefined || fields[0] === "Z" || fields[0] === "X") return undefined;
  return fields[19];
}

/** The process group of a process that runs. */
export async function processGroup(pid: number): Promise<number | undefined> {
  const group = (await statFields(pid))?.[2];
  return group === undefined ? undefined : Number(group);
}

/** True while a process of the group runs. Zombies, for which nobody may have come yet, do not count. */
export async function isGroupRunning(group: number): Promise<boolean> {
  if (!sendSignal(-group, 0)) return false;
  for (const entry of await readdir("/proc")) {
    if (!/^\d+$/.test(entry)) continue;
    const fields = await statFields(Number(entry));
    if (fields?.[2] === String(group) && fields[0] !== "Z" && fields[0] !== "X") return true;
  }
  return false;
}

/** True while exactly this process runs (not a zombie, not a later process with its pid). */
export async function isRunning({ pid, startTime }: ProcessIdentity): Promise<boolean> {
  return (await processStartTime(pid)) === startTime;
}

/**
 * Pids of this user's processes whose environment holds `NAME=value`, in ascending order. Where the first look finds
 * none, a second one decides: the first may have missed a process that was forked behind it, or that was just in exec
 * and had no environment yet.
 */
export async function processesWithEnvironment(name: string, value: string): Promise<number[]> {
  const holds = (pid: number) => environmentHolds(pid, name, value);
  const found = await filterProcesses(holds);
  return found.length > 0 ? found : await filterProcesses(holds);
}

/** Pids of processes that fit, in ascending order. Several are looked at together: one that hangs must not hold up all. */
export async function filterProcesses(fits: (pid: number) => Promise<boolean>): Promise<number[]> {
  const pids = (await readdir("/proc")).filter((entry) => /^\d+$/.test(entry)).map(Number);
  const fitting = await mapConcurrently(pids, fits);
  return pids.filter((_, at) => fitting[at] === true).sort((a, b) => a - b);
}

/** False also for another user's process, and for one that has just ended. */
export async function environmentHolds(pid: number, name: string, value: string): Promise<boolean> {
  try {
    const environment = await readFile(`/proc/${pid}/environ`, "latin1");
    return `\0${environment}`.includes(`\0${name}=${value}\0`);
  } catch {
    return false;
  }
}

/** Sends a signal (0: none, only looks) to a pid, or to a whole group with a negative pid. @returns false when nothing is there. */
export function sendSignal(pid: number, signal: NodeJS.Signals | 0): boolean {
  try {
    process.kill(pid, signal);
    return true;
  } catch (error) {
    if (errnoName(error) === "ESRCH") return false;
    throw error;
  }
}

/** Random per boot of this machine (proc(5)): tells a reboot from a process that is merely gone. */
export async function bootId(): Promise<string> {
  return (await readFile("/proc/sys/kernel/random/boot_id", "utf8")).trim();
}

/** The pid namespace of this process: pids of two namespaces must never be compared. */
export async function pidNamespace(): Promise<string> {
  return await readlink("/proc/self/ns/pid");
}
