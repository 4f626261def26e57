import { stat } from "node:fs/promises";
import { basename, extname, join, resolve } from "node:path";
import { ExitCode, isMissing, UsageError } from "../../base/errors.ts";
import { readTextIfThere } from "../../base/files.ts";
import { createRun } from "../../controller/create-run.ts";
import { runLocal } from "../../controller/run-local.ts";
import type { RunState } from "../../events/run-state.ts";
import { RunLayout } from "../../run/layout.ts";
import { readPlanIfThere } from "../../run/plan-file.ts";
import type { CommandContext, CommandResult } from "../command.ts";

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
  const say = (message: string): void => void context.stderr.write(`eval-hive: ${message}\n`);
  const layout = await prepare(target, options, context, say);
  const state = await runLocal({
    layout,
    env: context.env,
    nodeFile: process.execPath,
    takeOver: options.takeOver === true,
    interrupted: context.interrupted,
    aborted: context.aborted,
    onLook: sayChanges(say),
    say,
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
    text: `${render(state)}next: eval-hive ${complete ? "collect" : "status"} ${layout.directory}\n`,
  };
}

/** The run directory, planned from the config where it is not there yet. */
async function prepare(
  target: string,
  options: RunCommandOptions,
  context: CommandContext,
  say: (message: string) => void,
): Promise<RunLayout> {
  const path = resolve(context.cwd, target);
  if (await isDirectory(path)) return new RunLayout(path);
  const stem = basename(path, extname(path));
  const directory = resolve(context.cwd, options.output ?? join("runs", stem));
  const layout = new RunLayout(directory);
  const exists = (await readPlanIfThere(layout)) !== undefined;
  if (exists && options.update !== true) {
    if ((await readTextIfThere(path)) === (await readTextIfThere(layout.config))) return layout;
    throw new UsageError(
      "run.config-changed",
      `Cannot go on in "${directory}": "${path}" has changed since the run was created`,
      {
        hint: "Take the change into the run with --update, or choose another directory with --output.",
      },
    );
  }
  const { plan } = await createRun({
    configFile: path,
    directory,
    mode: exists ? "update" : "new",
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
  });
  for (const warning of plan.warnings) say(`warning: ${warning}`);
  return layout;
}

async function isDirectory(path: string): Promise<boolean> {
  try {
    return (await stat(path)).isDirectory();
  } catch (error) {
    if (isMissing(error)) return false;
    throw error;
  }
}

/** One plain line per change. */
function sayChanges(say: (message: string) => void): (state: RunState) => void {
  let last = "";
  return ({ leaves, units, requests_per_s }) => {
    const running = units.filter(({ state }) => state === "running").map(({ unit }) => unit);
    const line = `${leaves.done} of ${leaves.total} leaves done${running.length > 0 ? `, at ${running.join(", ")}` : ""}`;
    if (line === last) return;
    last = line;
    say(requests_per_s === null ? line : `${line} (${requests_per_s.toFixed(0)} requests/s)`);
  };
}

function render({ leaves, units }: RunState): string {
  const lines = [`${leaves.done} of ${leaves.total} leaves done`];
  for (const { unit, stopped, dead, invalid } of units) {
    if (stopped !== null) lines.push(`stopped: ${unit}: ${stopped.reason}`);
    for (const { leaf, class: kind, message } of dead)
      lines.push(`dead: ${unit} ${leaf}: ${kind}: ${message}`);
    for (const { leaf, reason } of invalid)
      lines.push(`invalid: ${unit} ${leaf}: ${reason ?? "see status"}`);
  }
  return `${lines.join("\n")}\n`;
}
