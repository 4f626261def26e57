import { access, constants } from "node:fs/promises";
import { hostname } from "node:os";
import { resolve } from "node:path";
import { ExitCode } from "../../base/errors.ts";
import { openJournal } from "../../events/journal.ts";
import { type CollectReport, collectScores } from "../../results/collect.ts";
import { RunLayout } from "../../run/layout.ts";
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
  const report = await collectScores(layout, { output, version: context.installation.version });
  await recordCollect(layout, report);
  return {
    exitCode: isComplete(report) ? ExitCode.done : ExitCode.incomplete,
    data: collectData(report),
    text: renderCollect(report),
  };
}

/** A run directory of somebody else, or on a read-only mount, is collected without leaving a trace. */
async function recordCollect(layout: RunLayout, { run_id, output, rows }: CollectReport) {
  if (!(await isWritable(layout))) return;
  await using journal = await openJournal({ layout, runId: run_id, node: hostname() });
  await journal.publish("collect.done", {}, { output, rows });
}

async function isWritable(layout: RunLayout): Promise<boolean> {
  try {
    await access(layout.events, constants.W_OK);
    return true;
  } catch {
    return false;
  }
}
