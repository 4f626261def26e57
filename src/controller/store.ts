import { createHash, randomBytes } from "node:crypto";
import { mkdir, readdir, readFile, rename, rm } from "node:fs/promises";
import { dirname, join, relative } from "node:path";
import { EnvironmentError, errnoName, isMissing } from "../base/errors.ts";
import { copyFileDurable, syncDirectory } from "../base/files.ts";

/** What travels with a run, so that deleting or upgrading the checkout changes nothing for it. */
export interface Travelling {
  /** The one-file agent. */
  readonly agentFile: string;
  /** Holds the Python package of the harness. */
  readonly harnessDirectory: string;
}

/**
 * Puts agent and harness into `.eval-hive/<sha>/` beside the run directory, once per content.
 * @returns the absolute path of that folder: `agent.mjs` and `harness/` are in it.
 */
export async function storeTravelling(runDirectory: string, from: Travelling): Promise<string> {
  const files = await listFiles(from);
  const sha = await hashOf(files);
  const store = join(dirname(runDirectory), ".eval-hive");
  const target = join(store, sha.slice(0, 16));
  const staging = join(store, `.staging-${randomBytes(6).toString("hex")}`);
  if (await exists(join(target, "agent.mjs"))) return target;
  await mkdir(staging, { recursive: true });
  try {
    const directories = new Set(files.map(({ name }) => dirname(join(staging, name))));
    for (const directory of directories) await mkdir(directory, { recursive: true });
    for (const { name, path } of files) await copyFileDurable(path, join(staging, name));
    for (const directory of directories) await syncDirectory(directory);
    await rename(staging, target);
    await syncDirectory(store);
  } catch (error) {
    // Another create-run was first: a directory with content can't be renamed over.
    if (!["ENOTEMPTY", "EEXIST"].includes(errnoName(error) ?? "")) throw error;
  } finally {
    await rm(staging, { recursive: true, force: true });
  }
  return target;
}

/** @throws {EnvironmentError} when that folder is not there any more. */
export async function assertStored(store: string): Promise<void> {
  if (await exists(join(store, "agent.mjs"))) return;
  throw new EnvironmentError("run.store-missing", `Cannot find this run's agent in "${store}"`, {
    hint: "Put it back with create-run --update; finished leaves are safe.",
  });
}

interface StoredFile {
  /** Relative to the store. */
  readonly name: string;
  readonly path: string;
}

async function listFiles({ agentFile, harnessDirectory }: Travelling): Promise<StoredFile[]> {
  if (!(await exists(agentFile))) {
    throw new EnvironmentError("install.agent", `Cannot find the agent at "${agentFile}"`, {
      hint: "Build it with: npm run build",
    });
  }
  const entries = await readdir(harnessDirectory, { recursive: true, withFileTypes: true });
  const harness = entries
    .filter((entry) => entry.isFile() && entry.name.endsWith(".py"))
    .map((entry) => join(entry.parentPath, entry.name))
    .sort()
    .map((path) => ({ name: join("harness", relative(harnessDirectory, path)), path }));
  return [{ name: "agent.mjs", path: agentFile }, ...harness];
}

async function hashOf(files: readonly StoredFile[]): Promise<string> {
  const hash = createHash("sha256");
  for (const { name, path } of files) {
    const content = await readFile(path);
    hash.update(`${name}\0${content.length}\0`).update(content);
  }
  return hash.digest("hex");
}

async function exists(path: string): Promise<boolean> {
  try {
    await readFile(path);
    return true;
  } catch (error) {
    if (isMissing(error)) return false;
    throw error;
  }
}
