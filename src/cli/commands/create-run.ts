import { ExitCode } from "../../base/errors.ts";
import { createRun } from "../../controller/create-run.ts";
import type { CommandContext, CommandResult } from "../command.ts";
import { renderCreatedRun } from "../render/create-run.ts";

export interface CreateRunCommandOptions {
  readonly config: string;
  readonly output: string;
  readonly update?: boolean;
  readonly force?: boolean;
  readonly dry?: boolean;
  readonly strict?: boolean;
  readonly allowMissingPaths?: boolean;
  readonly python?: string;
}

export async function createRunCommand(
  options: CreateRunCommandOptions,
  context: CommandContext,
): Promise<CommandResult> {
  const outcome = await createRun({
    configFile: options.config,
    directory: options.output,
    mode: options.update ? "update" : options.force ? "force" : "new",
    dry: options.dry === true,
    strict: options.strict === true,
    allowMissingPaths: options.allowMissingPaths === true,
    python: options.python ?? context.env.EVAL_HIVE_PYTHON,
    env: context.env,
    cwd: context.cwd,
    installationRoot: context.installation.root,
    version: context.installation.version,
    travelling: context.installation,
    say: (message) => void context.stderr.write(`eval-hive: ${message}\n`),
    signal: context.interrupted,
  });
  const { layout, plan, published, nCovered, nWaiting } = outcome;
  return {
    exitCode: ExitCode.done,
    data: {
      schema_version: 1,
      directory: layout.directory,
      run_id: plan.run_id,
      dry: options.dry === true,
      units: plan.units.length,
      leaves: Object.keys(plan.leaves).length,
      published_leaves: published.nLeaves,
      published_batches: published.nBatches,
      waiting_leaves: nWaiting,
      covered_leaves: nCovered,
      not_found: plan.not_found,
      warnings: plan.warnings,
    },
    text: renderCreatedRun(outcome, options.dry === true),
  };
}
