import { sha256 } from "../base/hash.ts";
import type { LogNames } from "./agent-logs.ts";
import type { ServerSpec } from "./node-protocol.ts";
import { unitVariables, type WorkUnit } from "./unit.ts";

/** The servers that a unit needs, all on this node; none when lm_eval loads the model itself. Pure. */
export function serverSpecs(unit: WorkUnit, logs: LogNames): ServerSpec[] {
  const { profile, plan } = unit;
  if (profile.server_command === null) return [];
  const env = unitVariables(unit);
  const common = {
    command: profile.server_command,
    env,
    env_vars: profile.env_vars,
    cwd: plan.working_directory,
    host: "127.0.0.1",
    max_wait_s: profile.health_check_max_wait_s,
    health_interval_s: profile.health_check_interval_s,
    start_attempts: profile.server_start_max_attempts,
    model: requestedModel(profile.model_args["model"], env),
  };
  const of = profile.num_servers;
  return Array.from({ length: of }, (_, server) => {
    const log_prefix = logs.server(unit, server);
    const spec = { ...common, server, log_prefix, share: { index: server, of } };
    // A unit that comes back unchanged finds its servers running.
    return { ...spec, key: sha256(JSON.stringify(spec)).slice(0, 16) };
  });
}

/** What requests will call the model; null when a variable that only the node knows is part of it. */
function requestedModel(value: unknown, env: Readonly<Record<string, string>>): string | null {
  if (typeof value !== "string") return null;
  const filled = value.replace(
    /\$(?:\{(\w+)\}|(\w+))/g,
    (whole, a?: string, b?: string) => env[a ?? b ?? ""] ?? whole,
  );
  return filled.includes("$") ? null : filled;
}
