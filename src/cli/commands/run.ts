import { stat } from "node:fs/promises";
import { basename, extname, join, relative, resolve } from "node:path";
import { ExitCode, isMissing, UsageError } from "../../base/errors.ts";
import { readTextIfThere } from "../../base/files.ts";
import { sha256 } from "../../base/hash.ts";
import { createRun, RunExistsError } from "../../controller/create-run.ts";
import { runLocal } from "../../controller/run-local.ts";
import { RunLayout } from "../../run/layout.ts";
import { readPlanIfThere } from "../../run/plan-file.ts";
import type { CommandContext, CommandResult } from "../command.ts";
import { openRunDisplay, renderRunEnd } from "../render/run.ts";

export interface RunCommandOptions {
  readonly output?: string;
  readonly update?: boolean;
  readonly python?: string;
  readonly takeOver?: boolean;
  readonly strict?: boolean;
}

/** `run CFG|DIR`: plans if there is no run yet, then evaluates what is open on this machine. */
export async function runCommand(
  target: string,
  options: RunCommandOptions,
  context: CommandContext,
): Promise<CommandResult> {
  const layout = await prepare(target, options, context);
  const directory = shownPath(layout.directory, context.cwd);
  using display = openRunDisplay({
    stderr: context.stderr,
    plain: context.json || context.env["TERM"] === "dumb",
    title: directory,
    stopping: () => context.interrupted.aborted,
    monotonic: () => performance.now(),
  });
  const state = await runLocal({
    layout,
    env: context.env,
    nodeFile: process.execPath,
    takeOver: options.takeOver === true,
    interrupted: context.interrupted,
    aborted: context.aborted,
    onLook: display.look,
    say: display.say,
  });
  const { leaves } = state;
  const complete = leaves.done === leaves.total;
  return {
    exitCode: complete ? ExitCode.done : ExitCode.incomplete,
    data: {
      schema_version: 1,
      directory: layout.directory,
      run_id: state.run_id,
      complete,
      leaves,
      units: state.units,
    },
    text: renderRunEnd(state, directory),
  };
}

/** The run directory, planned from the config where it is not there yet. */
async function prepare(
  target: string,
  options: RunCommandOptions,
  context: CommandContext,
): Promise<RunLayout> {
  const say = (message: string): void => void context.stderr.write(`eval-hive: ${message}\n`);
  const path = resolve(context.cwd, target);
  if (await isDirectory(path)) {
    refusePlanning(target, options);
    return new RunLayout(path);
  }
  const stem = basename(path, extname(path));
  const directory = resolve(context.cwd, options.output ?? join("runs", stem));
  const layout = new RunLayout(directory);
  const planned = await readPlanIfThere(layout);
  if (planned !== undefined && options.update !== true) {
    // The plan's word counts: an update that died may have replaced the copy of the config already.
    if (sha256((await readTextIfThere(path)) ?? "") === planned.config_sha256) {
      if (options.python !== undefined) refusePlanned("--python", directory);
      return layout;
    }
    throw new UsageError(
      "run.config-changed",
      `Cannot go on in "${directory}": "${path}" has changed since the run was created`,
      {
        hint: "Take the change into the run with --update, or choose another directory with --output.",
      },
    );
  }
  try {
    const { plan } = await createRun({
      configFile: target,
      directory,
      mode: planned === undefined ? "new" : "update",
      dry: false,
      strict: options.strict === true,
      allowMissingPaths: false,
      python: options.python ?? context.env["EVAL_HIVE_PYTHON"],
      env: context.env,
      cwd: context.cwd,
      installationRoot: context.installation.root,
      version: context.installation.version,
      travelling: context.installation,
      say,
      signal: context.interrupted,
    });
    for (const warning of plan.warnings) say(`warning: ${warning}`);
    return layout;
  } catch (error) {
    if (!(error instanceof RunExistsError)) throw error;
    // Somebody else has planned the same meanwhile.
    return await prepare(target, options, context);
  }
}

/** A run directory has its plan: what would make another one needs the config. @throws {UsageError} */
function refusePlanning(
  target: string,
  { output, update, python, strict }: RunCommandOptions,
): void {
  const given = { output, update, python, strict };
  const [option] = Object.entries(given).find(([, value]) => value !== undefined) ?? [];
  if (option !== undefined) refusePlanned(`--${option}`, target);
}

function refusePlanned(option: string, directory: string): never {
  throw new UsageError("run.planned", `Cannot take ${option}: "${directory}" is planned already`, {
    hint: "Leave it out, or plan again: eval-hive run CONFIG --update",
  });
}

async function isDirectory(path: string): Promise<boolean> {
  try {
    return (await stat(path)).isDirectory();
  } catch (error) {
    if (isMissing(error)) return false;
    throw error;
  }
}

/** As short as a person would type it: relative where the directory is below the working directory. */
function shownPath(directory: string, cwd: string): string {
  const short = relative(cwd, directory);
  return short === "" || short.startsWith("..") ? directory : short;
}
