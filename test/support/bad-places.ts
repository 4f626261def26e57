import { chmod, cp, mkdir, readdir, readFile, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { type Completed, runToEnd } from "../../src/base/spawn.ts";
import { type Call, launcher } from "./eval-hive.ts";
import { root, skip } from "./require.ts";
import type { SmallPlace } from "./small-run.ts";

/** A Python that can be exchanged without a run noticing: a script that starts whichever it was last told to be. */
export class ChangingPython {
  readonly path: string;
  readonly #place: SmallPlace;

  constructor(place: SmallPlace) {
    this.#place = place;
    this.path = join(place.root, "python");
  }

  /** @param searched where it looks for modules first */
  async be(python: string, options: { flags?: string; searched?: string } = {}): Promise<void> {
    const { flags = "", searched } = options;
    const setting = searched === undefined ? "" : `PYTHONPATH='${searched}' `;
    await writeFile(this.path, `#!/bin/sh\n${setting}exec '${python}' ${flags} "$@"\n`);
    await chmod(this.path, 0o755);
  }

  /** A folder in which an lm_eval of another version seems to be installed. */
  async pretend(version: string): Promise<string> {
    const folder = join(this.#place.root, `lm_eval-${version}`);
    const info = join(folder, `lm_eval-${version}.dist-info`);
    await mkdir(info, { recursive: true });
    await writeFile(
      join(info, "METADATA"),
      `Metadata-Version: 2.1\nName: lm_eval\nVersion: ${version}\n`,
    );
    return folder;
  }

  /** A folder with this Python's lm_eval, in which somebody has changed a file. */
  async patch(python: string): Promise<string> {
    const find =
      "import importlib.util as u; print(u.find_spec('lm_eval').submodule_search_locations[0])";
    const { stdout } = await runToEnd(python, ["-c", find], { env: this.#place.env });
    const original = stdout.trim();
    const folder = join(this.#place.root, "patched");
    await mkdir(join(folder, "lm_eval"), { recursive: true });
    for (const name of await readdir(original)) {
      const [from, to] = [join(original, name), join(folder, "lm_eval", name)];
      // 13,000 files, which are no part of its code.
      if (name === "tasks") await symlink(from, to);
      else await cp(from, to, { recursive: true });
    }
    const changed = join(folder, "lm_eval/defaults.py");
    await writeFile(changed, `${await readFile(changed, "utf8")}\n# Changed by hand.\n`);
    return folder;
  }
}

/** Scripts for `exec sh "$EH_TEST_RUN/server.sh"`: a server whose fate can be changed between two runs. */
const good = `exec '${process.execPath}' '${root}/test/support/completions-server.ts'`;
export const serverScripts = {
  good,
  /** Runs, and never listens. */
  silent: "exec sleep 600",
  /** Healthy, until the first request of a batch comes. */
  "dies in each batch": `${good} --die-at 1`,
  /** Answers, without log-probabilities. */
  "cannot score": `${good} --null-logprobs 1`,
  /** A program that is not ours listens on our port, once. */
  stranger: `if mkdir "$EH_TEST_RUN/once"; then
  env -i setsid '${process.execPath}' '${root}/test/support/completions-server.ts' \\
    --port "$EH_PORT" --null-logprobs 1 > /dev/null 2>&1 &
  echo "$!" > "$EH_TEST_RUN/stranger.pid"
  exec sleep 600
fi
${good}`,
} as const;

export async function changeServer(
  place: SmallPlace,
  script: keyof typeof serverScripts,
): Promise<void> {
  await writeFile(join(place.root, "server.sh"), `${serverScripts[script]}\n`);
}

/** False after the test was skipped (an error where skips are forbidden): this user may mount nothing of its own. */
export async function requireMounts(t: TestContext): Promise<boolean> {
  const words = ["--map-root-user", "--mount", "sh", "-c", "mount -t tmpfs tmpfs /mnt"];
  const { code, stderr } = await runToEnd("unshare", words, { env: process.env });
  if (code === 0) return true;
  skip(t, `unshare may not mount: ${stderr}`);
  return false;
}

/**
 * Calls the command where a script has changed what is mounted, for it and its children alone.
 * @param script with the command as "$@"
 */
export async function evalHiveInNamespace(
  script: string,
  args: readonly string[],
  { cwd, env }: Call,
): Promise<Completed> {
  const words = ["--map-root-user", "--mount", "sh", "-euc", script, "sh", launcher, ...args];
  return await runToEnd("unshare", words, { cwd, env });
}

/** Calls the command under a shell's limits: `umask 077`, `ulimit -v 4194304`. */
export async function evalHiveWith(
  setting: string,
  args: readonly string[],
  { cwd, env }: Call,
): Promise<Completed> {
  return await runToEnd("sh", ["-euc", `${setting}; exec "$@"`, "sh", launcher, ...args], {
    cwd,
    env,
  });
}

/** Calls the command as a user who owns nothing; undefined where this process may not become that user, or it sees no checkout. */
export async function evalHiveAsNobody(
  args: readonly string[],
  { cwd, env }: Call,
): Promise<Completed | undefined> {
  if (process.getuid?.() !== 0) return undefined;
  const become = ["--reuid", "65534", "--regid", "65534", "--clear-groups"];
  const { code } = await runToEnd("setpriv", [...become, "test", "-x", launcher], { env });
  if (code !== 0) return undefined;
  return await runToEnd("setpriv", [...become, launcher, ...args], { cwd, env });
}
