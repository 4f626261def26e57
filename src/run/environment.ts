import { EnvironmentError } from "../base/errors.ts";
import { runToEnd } from "../base/spawn.ts";

/**
 * The values of `env_vars` as bash expands them inside double quotes, in order, so that a later one may use an earlier one
 * (`${SCRATCH}/cache`, `$(hostname)`, `$(pwd)`). Only the named variables are returned.
 * @throws {EnvironmentError} when bash is missing or reports an error. @throws the signal's reason when it aborts first.
 */
export async function expandEnvVars(
  envVars: Readonly<Record<string, string>>,
  base: NodeJS.ProcessEnv,
  { cwd, signal }: { readonly cwd: string; readonly signal?: AbortSignal },
): Promise<Record<string, string>> {
  const names = Object.keys(envVars);
  if (names.length === 0) return {};
  const exports = names.map((name) => `export ${name}="${quoteForExpansion(envVars[name] ?? "")}"`);
  // Each value between two zero bytes: it may hold line breaks.
  const prints = names.map((name) => `printf '%s\\0' "$${name}"`);
  const { code, stdout, stderr } = await runToEnd(
    "bash",
    ["-c", ["set -e", ...exports, ...prints].join("\n")],
    { cwd, env: base, ...(signal !== undefined && { signal }) },
  );
  signal?.throwIfAborted();
  if (code !== 0) {
    throw new EnvironmentError("env-vars.expand", `Cannot expand env_vars: ${stderr.trim()}`, {
      hint: "The values are expanded by bash inside double quotes; try them in a shell.",
    });
  }
  const values = stdout.split("\0");
  return Object.fromEntries(names.map((name, i) => [name, values[i] ?? ""]));
}

/** Quotes end neither the string nor the command substitutions inside it. */
function quoteForExpansion(value: string): string {
  return value.replaceAll('"', '\\"');
}

/** Variables that would make lm_eval believe it is one rank of many, or send loopback traffic to a proxy. */
const hidden =
  /^(LOCAL_RANK|RANK|WORLD_SIZE|LOCAL_WORLD_SIZE|MASTER_ADDR|MASTER_PORT|https?_proxy|all_proxy|ftp_proxy|no_proxy)$/i;

/** The environment without what must not reach lm_eval. */
export function withoutHidden(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(env).filter(([name]) => !hidden.test(name)));
}

/** Switches that keep the Hugging Face libraries off the network. */
export const offlineSwitches = {
  HF_HUB_OFFLINE: "1",
  HF_DATASETS_OFFLINE: "1",
  TRANSFORMERS_OFFLINE: "1",
  HF_EVALUATE_OFFLINE: "1",
} as const;
