import { access, constants } from "node:fs/promises";
import { hostname } from "node:os";
import { resolve } from "node:path";
import { ExitCode, errnoName } from "../../base/errors.ts";
import { eventCacheFile, readTotals } from "../../events/event-cache.ts";
import { openJournal } from "../../events/journal.ts";
import { warningsOf } from "../../events/run-state.ts";
import { type CollectReport, collectScores } from "../../results/collect.ts";
import { RunLayout } from "../../run/layout.ts";
import { cacheDirectory } from "../cache-directory.ts";
import type { CommandContext, CommandResult } from "../command.ts";
import { collectData, isComplete, renderCollect } from "../render/collect.ts";
import { renderServerWarning } from "../render/status.ts";

/** `collect RUN`: the scores of a run into one parquet file. Exit code 4 when a planned leaf has no scores yet. */
export async function collect(
  directory: string,
  options: { readonly output?: string },
  context: CommandContext,
): Promise<CommandResult> {
  const layout = new RunLayout(resolve(context.cwd, directory));
  const output =
    options.output === undefined ? layout.scores : resolve(context.cwd, options.output);
  const { version } = context.installation;
  const collected = await collectScores(layout, { output, version });
  await recordCollect(layout, collected);
  const odd = await serverWarnings(layout, collected.run_id, cacheDirectory(context.env));
  const report = { ...collected, warnings: [...collected.warnings, ...odd] };
  return {
    exitCode: isComplete(report) ? ExitCode.done : ExitCode.incomplete,
    data: collectData(report),
    text: renderCollect(report),
  };
}

/** What agents found odd about the servers that the scores come from. Scores are collected also where events can't be read. */
async function serverWarnings(layout: RunLayout, runId: string, cache: string): Promise<string[]> {
  try {
    const { writers } = await readTotals(
      layout.events,
      eventCacheFile(cache, layout.directory, runId),
    );
    return warningsOf(writers.values()).map(renderServerWarning);
  } catch (error) {
    if (errnoName(error) === undefined) throw error;
    return [];
  }
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
