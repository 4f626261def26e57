import { offlineSwitches } from "../config/offline.ts";
import { expandEnvVars, withoutHidden } from "../run/environment.ts";
import type { OwnerId } from "../run/ids.ts";
import type { Profile } from "../run/plan.ts";
import { unitVariables, type WorkUnit } from "./unit.ts";

/**
 * What none of our processes should inherit: a rank in a group of processes, for whose others lm_eval would wait, and
 * switches of Node that are for other programs of Node.
 */
const misleading =
  /^(LOCAL_RANK|RANK|WORLD_SIZE|LOCAL_WORLD_SIZE|NODE_RANK|MASTER_ADDR|MASTER_PORT|NODE_OPTIONS|NODE_USE_ENV_PROXY)$/;

/** What every process that an agent starts gets: marked as the owner's, nothing that misleads. */
export function childEnvironment(env: NodeJS.ProcessEnv, owner: OwnerId): NodeJS.ProcessEnv {
  const kept = Object.entries(env).filter(([name]) => !misleading.test(name));
  return { ...Object.fromEntries(kept), EH_OWNER: owner, UV_THREADPOOL_SIZE: "16" };
}

export function isOffline(offline: Profile["offline"], isLocal: boolean): boolean {
  return offline === "always" || (offline === "auto" && !isLocal);
}

/**
 * The environment in which the harness imports lm_eval and its libraries, which read HF_* then: the config's variables as
 * they are without any unit. Offline nothing needs a proxy; online the Hub may.
 */
export async function harnessEnvironment(
  base: NodeJS.ProcessEnv,
  profile: Profile,
  options: { readonly isLocal: boolean; readonly cwd: string; readonly signal: AbortSignal },
): Promise<NodeJS.ProcessEnv> {
  const offline = isOffline(profile.offline, options.isLocal);
  const from = offline ? { ...withoutHidden(base), ...offlineSwitches } : base;
  return { ...from, ...(await expandEnvVars(profile.env_vars, from, options)) };
}

/** What is added for one unit after the fork. @param port that stands for EH_PORT: the balancer's. */
export async function evaluationVariables(
  base: NodeJS.ProcessEnv,
  unit: WorkUnit,
  { port, signal }: { readonly port: number | undefined; readonly signal: AbortSignal },
): Promise<Record<string, string>> {
  const variables = {
    ...unitVariables(unit),
    ...(port !== undefined && { EH_PORT: String(port) }),
  };
  const cwd = unit.plan.working_directory;
  const from = { ...base, ...variables };
  const expanded = await expandEnvVars(unit.profile.env_vars, from, { cwd, signal });
  return { ...expanded, ...variables };
}
