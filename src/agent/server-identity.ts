import { readdir, readFile, stat } from "node:fs/promises";
import { join, resolve } from "node:path";
import { sha256 } from "../base/hash.ts";
import { canonicalJson } from "../base/json.ts";
import type { ServerSpec } from "./node-protocol.ts";
import { fillPlaceholders } from "./placeholders.ts";

/** What differs between servers of one unit, from start to start, and from one job or node to the next, and changes no answer. */
const ownOfServer =
  /^(?:EH_PORT|EH_BACKEND_PORT|EH_SERVER_ID|EH_OWNER|SLURM_(?:JOB_?ID|JOB_(?:NAME|NODELIST|\w+_TIME|GPUS)|ARRAY_\w+|STEP_?ID|STEP_(?:NODELIST|LAUNCHER_PORT)|NODEID|NODELIST|TASK_PID|PROCID|LOCALID|SUBMIT_\w+|LAUNCH_\w+|SRUN_\w+|TOPOLOGY_\w+|TMPDIR|RESTART_COUNT)|SLURMD_\w+|HOSTNAME|TMPDIR|RANDOM|PPID)$/;

/** What a server was started with, and what it says of itself. */
export interface ServerFacts {
  readonly spec: Pick<ServerSpec, "command" | "cwd" | "env" | "env_vars">;
  /** In which its command runs. */
  readonly env: NodeJS.ProcessEnv;
  /** Variables that its share of the node sets: they differ from one server to the next. */
  readonly share: Iterable<string>;
  /** Of /v1/models; undefined: it has no such list. */
  readonly models: readonly string[] | undefined;
}

/**
 * What servers have in common that give equal answers: their command, the scripts and the like that it names, and the values of
 * all variables that it names or the config sets; the models that they name; and the weights, by names, sizes and times of the
 * files at EH_MODEL_PATH. Of variables that hold a port, or are otherwise one server's own, the text that the config has for them.
 */
export async function identifyServer({ spec, env, share, models }: ServerFacts): Promise<string> {
  const shared = new Set(share);
  /** Values that come from others that are the server's own. */
  const derived = new Set<string>();
  const isOwn = (name: string) => ownOfServer.test(name) || shared.has(name) || derived.has(name);
  const variables: Record<string, string | null> = {};
  for (const name of namesIn(spec.command)) if (!isOwn(name)) variables[name] = env[name] ?? null;
  for (const [name, value] of Object.entries(spec.env)) variables[name] = value;
  for (const [name, text] of Object.entries(spec.env_vars)) {
    // Later ones may use earlier ones.
    if (namesIn(text).some(isOwn)) derived.add(name);
    variables[name] = isOwn(name) ? text : (env[name] ?? null);
  }
  const path = spec.env["EH_MODEL_PATH"];
  const weights = path === undefined ? [] : await listFiles(resolve(spec.cwd, path));
  const programs = await hashPrograms(fillPlaceholders(spec.command, env), spec.cwd);
  const { command } = spec;
  return sha256(canonicalJson({ command, variables, programs, models: models ?? null, weights }));
}

/** Scripts, templates and configs; logs are none, which differ from start to start. */
const program = /\.(?:sh|bash|py|[cm]?[jt]s|jinja2?|j2|json|ya?ml|toml)$/i;
const maxProgramBytes = 1 << 20;

/** Of the contents of such files that a command names: whoever edits one starts another server. */
async function hashPrograms(command: string, cwd: string): Promise<string[]> {
  const hashes: string[] = [];
  for (const word of command.split(/[\s"'`=,:;|&<>()]+/)) {
    if (!program.test(word)) continue;
    const path = resolve(cwd, word);
    const found = await stat(path).catch(() => undefined);
    if (found?.isFile() !== true || found.size > maxProgramBytes) continue;
    const content = await readFile(path).catch(() => undefined);
    if (content !== undefined) hashes.push(sha256(content));
  }
  return hashes;
}

function namesIn(text: string): string[] {
  return [...text.matchAll(/\$\{?(\w+)/g)].map(([, name]) => name as string);
}

/** Name, size and time of each file at or below a path, in order; none where there is no such path, as for a name on a hub. */
async function listFiles(root: string): Promise<[name: string, size: number, mtimeMs: number][]> {
  const files: [string, number, number][] = [];
  const seen = new Set<string>();
  const look = async (name: string): Promise<void> => {
    const path = join(root, name);
    const found = await stat(path).catch(() => undefined);
    if (found?.isFile() === true) files.push([name, found.size, Math.round(found.mtimeMs)]);
    if (found?.isDirectory() !== true) return;
    // Links may lead to where it has been already.
    const place = `${found.dev} ${found.ino}`;
    if (seen.has(place)) return;
    seen.add(place);
    // What can't be read the server can't read either: all else still tells weights apart.
    const names = await readdir(path).catch(() => []);
    for (const inner of names.sort()) await look(join(name, inner));
  };
  await look("");
  return files;
}
