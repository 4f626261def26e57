import { homedir } from "node:os";
import { join } from "node:path";

/** Of the user, for all runs: what is kept there saves time, and can be deleted. */
export function cacheDirectory(env: Readonly<NodeJS.ProcessEnv>): string {
  const base = env.XDG_CACHE_HOME || join(env.HOME ?? homedir(), ".cache");
  return join(base, "eval-hive");
}
