import { EnvironmentError } from "../base/errors.ts";
import { runToEnd } from "../base/spawn.ts";

/**
 * The values of `env_vars` as bash expands them in a here-document, in order, so that a later one may use an earlier one
 * (`${SCRATCH}/cache`, `$(hostname)`, `$(pwd)`): quotes are text, but inside `$(…)`, backticks and `${…}`, where they
 * quote. Only the named variables are returned.
 * @throws {EnvironmentError} when bash is missing or reports an error. @throws the signal's reason when it aborts first.
 */
export async function expandEnvVars(
  envVars: Readonly<Record<string, string>>,
  base: NodeJS.ProcessEnv,
  { cwd, signal }: { readonly cwd: string; readonly signal?: AbortSignal },
): Promise<Record<string, string>> {
  const names = Object.keys(envVars);
  if (names.length === 0) return {};
  const exports = names.map((name) => exportExpanded(name, envVars[name] ?? ""));
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
      hint: "The values are expanded by bash as in a here-document (<<END); try them in a shell.",
    });
  }
  const values = stdout.split("\0");
  return Object.fromEntries(names.map((name, i) => [name, values[i] ?? ""]));
}

/** Lines of a script that stops at a value which can't be expanded: then nothing is read, not even the line's end. */
function exportExpanded(name: string, value: string): string {
  let end = "EH_END";
  while (value.includes(end)) end += "_";
  const [backslashes = ""] = /\\*$/.exec(value) ?? [];
  // A single one would take the end of the line with it.
  const text = backslashes.length % 2 === 0 ? value : `${value}\\`;
  return [
    "unset EH_EXPANDED",
    `IFS= read -r -d '' EH_EXPANDED <<${end} || true`,
    text,
    end,
    '[ -n "$EH_EXPANDED" ]',
    `export ${name}="\${EH_EXPANDED%?}"`,
  ].join("\n");
}

/** Variables that would make lm_eval believe it is one rank of many, or send loopback traffic to a proxy. */
const hidden =
  /^(LOCAL_RANK|RANK|WORLD_SIZE|LOCAL_WORLD_SIZE|MASTER_ADDR|MASTER_PORT|https?_proxy|all_proxy|ftp_proxy|no_proxy)$/i;

/** The environment without what must not reach lm_eval. */
export function withoutHidden(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(env).filter(([name]) => !hidden.test(name)));
}
