import { stat } from "node:fs/promises";
import { homedir } from "node:os";
import { join, resolve } from "node:path";
import {
  EnvironmentError,
  ExitCode,
  errnoAdvice,
  errnoName,
  messageOf,
  UsageError,
} from "../../base/errors.ts";
import { readRunLook } from "../../controller/status.ts";
import { RunLayout } from "../../run/layout.ts";
import type { CommandContext, CommandResult } from "../command.ts";
import { renderStatus, statusData } from "../render/status.ts";

/** `status RUN`: what is done, running, failed and open. Exit code 0 whenever the run could be read, whatever its state. */
export async function statusCommand(
  directory: string,
  options: { readonly detailed?: boolean },
  context: CommandContext,
): Promise<CommandResult> {
  const layout = new RunLayout(resolve(context.cwd, directory));
  const look = await reading(layout, async () => {
    await assertDirectory(layout);
    return await readRunLook(layout, { cacheDirectory: cacheDirectory(context.env) });
  });
  const detailed = options.detailed === true;
  return {
    exitCode: ExitCode.done,
    data: statusData(look, layout, detailed),
    text: renderStatus(look, { shownAs: directory, layout, detailed }),
  };
}

/** What the operating system refuses is the environment's fault. */
async function reading<T>({ directory }: RunLayout, read: () => Promise<T>): Promise<T> {
  try {
    return await read();
  } catch (cause) {
    if (errnoName(cause) === undefined) throw cause;
    throw new EnvironmentError(
      "run.unreadable",
      `Cannot read the run in "${directory}": ${errnoAdvice(cause) ?? messageOf(cause)}`,
      { cause },
    );
  }
}

/** @throws {UsageError} */
async function assertDirectory({ directory, plan, manifest }: RunLayout): Promise<void> {
  if (await isThere(plan)) return;
  if (await isThere(manifest)) {
    throw new UsageError("run.foreign", `Cannot read a run in "${directory}": it has no plan`, {
      hint: "It looks like a run of the Python eval-hive, or a create-run that did not end: create the run again in another directory; results under output_path are kept.",
    });
  }
  const found = await stat(directory).catch(() => undefined);
  const state =
    found === undefined
      ? "there is no such directory"
      : found.isDirectory()
        ? "no eh_plan.json there"
        : "it is a file";
  throw new UsageError("run.missing", `Cannot find a run in "${directory}": ${state}`, {
    hint:
      found?.isFile() === true
        ? "Give the run directory, not the config: the one that run or create-run has written."
        : "Give the directory that run or create-run has written; both make one: eval-hive run CONFIG",
  });
}

async function isThere(path: string): Promise<boolean> {
  try {
    await stat(path);
    return true;
  } catch (error) {
    if (["ENOENT", "ENOTDIR"].includes(errnoName(error) ?? "")) return false;
    throw error;
  }
}

function cacheDirectory(env: Readonly<NodeJS.ProcessEnv>): string {
  const base = env.XDG_CACHE_HOME || join(env.HOME ?? homedir(), ".cache");
  return join(base, "eval-hive");
}
