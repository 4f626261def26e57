import { access, constants } from "node:fs/promises";
import { hostname } from "node:os";
import { join, resolve } from "node:path";
import { ExitCode } from "../../base/errors.ts";
import { type Journal, openJournal } from "../../events/journal.ts";
import { type CollectReport, collectScores } from "../../results/collect.ts";
import { RunLayout } from "../../run/layout.ts";
import { readPlan } from "../../run/plan-file.ts";
import type { CommandContext, CommandResult } from "../command.ts";
import { collectData, isComplete, renderCollect } from "../render/collect.ts";

/** `collect RUN`: the scores of a run into one parquet file. Exit code 4 when a planned leaf has no scores yet. */
export async function collect(
  directory: string,
  options: { readonly output?: string },
  context: CommandContext,
): Promise<CommandResult> {
  const layout = new RunLayout(resolve(context.cwd, directory));
  const output =
    options.output === undefined ? layout.scores : resolve(context.cwd, options.output);
  await using journal = await openJournalIfWritable(layout);
  const report = await collectScores(layout, {
    output,
    version: context.installation.version,
    ...(journal === undefined ? {} : { events: journal }),
  });
  return resultOf(report);
}

function resultOf(report: CollectReport): CommandResult {
  return {
    exitCode: isComplete(report) ? ExitCode.done : ExitCode.incomplete,
    data: collectData(report),
    text: renderCollect(report),
  };
}

/** A run directory of somebody else, or on a read-only mount, is collected without leaving a trace. */
async function openJournalIfWritable(layout: RunLayout): Promise<Journal | undefined> {
  const plan = await readPlan(layout);
  const isWritable = async (path: string) =>
    await access(path, constants.W_OK).then(
      () => true,
      () => false,
    );
  if (!(await isWritable(layout.directory)) && !(await isWritable(join(layout.events, "."))))
    return undefined;
  return await openJournal({ layout, runId: plan.run_id, node: hostname() });
}
