import { chmod, readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { type Completed, runToEnd } from "../../src/base/spawn.ts";
import type { Call } from "./eval-hive.ts";

const mountAndRun = 'mount --bind "$1" "$1" && mount -o remount,ro,bind "$1" && shift && exec "$@"';

/**
 * Runs a program to which a directory is read-only: in a mount namespace of its own; where that is not allowed, as nobody
 * when we are root, whom modes don't stop, else with the modes changed for the time being.
 */
export async function runReadOnly(
  directory: string,
  command: readonly string[],
  { cwd, env }: Call,
): Promise<Completed> {
  const mounted = ["-rm", "sh", "-c", mountAndRun, "sh", directory];
  const possible = await runToEnd("unshare", [...mounted, "true"], { cwd, env });
  if (possible.code === 0) return await runToEnd("unshare", [...mounted, ...command], { cwd, env });
  if (process.getuid?.() === 0) {
    const nobody = ["--reuid=65534", "--regid=65534", "--clear-groups"];
    return await runToEnd("setpriv", [...nobody, ...command], { cwd, env });
  }
  const modes = await withoutWriteModes(directory);
  try {
    const [file = "", ...args] = command;
    return await runToEnd(file, args, { cwd, env });
  } finally {
    for (const [path, mode] of modes.reverse()) await chmod(path, mode);
  }
}

/** @returns the modes as they were, parents first. */
async function withoutWriteModes(directory: string): Promise<[path: string, mode: number][]> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true });
  const paths = [directory, ...entries.map((entry) => join(entry.parentPath, entry.name))];
  const modes: [string, number][] = [];
  for (const path of paths) modes.push([path, (await stat(path)).mode]);
  for (const [path, mode] of [...modes].reverse()) await chmod(path, mode & ~0o222);
  return modes;
}
