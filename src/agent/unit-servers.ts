import { sha256 } from "../base/hash.ts";
import type { LogNames } from "./agent-logs.ts";
import type { HowToAsk, ServerSpec } from "./node-protocol.ts";
import { fillPlaceholders } from "./placeholders.ts";
import { fingerprintsOf, unitVariables, type WorkUnit } from "./unit.ts";

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
    ask: howToAsk(unit, env),
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
  const filled = fillPlaceholders(value, env);
  return filled.includes("$") ? null : filled;
}

/** lm_eval's clients of OpenAI's protocol, by the names of their models: of others nobody knows what they send. */
const clients: Readonly<Record<string, HowToAsk["kind"]>> = {
  "local-completions": "completions",
  "openai-completions": "completions",
  "local-chat-completions": "chat",
  "openai-chat-completions": "chat",
};

/** Scored by log-likelihoods of a prompt's own tokens. */
const scoredKinds = new Set(["loglikelihood", "loglikelihood_rolling", "multiple_choice"]);

/** Stands for the port that only the node knows. */
const somePort = "59999";

/** How a server is asked before it gets requests: as they will be. undefined: nobody knows, or they go elsewhere. Pure. */
export function howToAsk(
  unit: WorkUnit,
  env: Readonly<Record<string, string>>,
): HowToAsk | undefined {
  const { profile, plan } = unit;
  const { base_url: baseUrl, tokenized_requests: tokenized, header } = profile.model_args;
  const kind = clients[String(profile.lm_eval_args["model"])];
  if (kind === undefined || typeof baseUrl !== "string") return undefined;
  const url = URL.parse(fillPlaceholders(baseUrl, { ...env, EH_PORT: somePort }));
  if (url === null || url.port !== somePort || url.href.includes("$")) return undefined;
  const isScored = fingerprintsOf(unit).some(([leaf]) =>
    scoredKinds.has(plan.leaves[leaf]?.output_type ?? ""),
  );
  const style = String(tokenized).toLowerCase() === "false" ? "text" : "tokens";
  return {
    path: `${url.pathname}${url.search}`,
    kind,
    echo: isScored && kind === "completions" ? style : null,
    headers: textFields(header, env),
  };
}

function textFields(
  header: unknown,
  env: Readonly<Record<string, string>>,
): Record<string, string> | null {
  if (typeof header !== "object" || header === null) return null;
  return Object.fromEntries(
    Object.entries(header).map(([name, value]) => [name, fillPlaceholders(String(value), env)]),
  );
}
