import { resolve } from "node:path";
import { ExitCode } from "../../base/errors.ts";
import { type RequeuedLeaf, requeue } from "../../controller/requeue.ts";
import { RunLayout } from "../../run/layout.ts";
import { readPlan } from "../../run/plan-file.ts";
import type { CommandContext, CommandResult } from "../command.ts";
import { renderCommand } from "../render/command-line.ts";

export interface RequeueCommandOptions {
  readonly unit?: readonly string[];
  readonly leaf?: readonly string[];
}

/** `requeue RUN`: another chance for what failed too often. */
export async function requeueCommand(
  directory: string,
  { unit: units, leaf: leaves }: RequeueCommandOptions,
  context: CommandContext,
): Promise<CommandResult> {
  const layout = new RunLayout(resolve(context.cwd, directory));
  // Says what is wrong with a directory that holds no run.
  await readPlan(layout);
  const requeued = await requeue({
    layout,
    ...(units !== undefined && { units }),
    ...(leaves !== undefined && { leaves }),
    signal: context.interrupted,
    say: (message) => void context.stderr.write(`eval-hive: ${message}\n`),
  });
  return {
    exitCode: ExitCode.done,
    data: { schema_version: 1, run: layout.directory, requeued },
    text: renderRequeued(requeued, directory),
  };
}

function renderRequeued(requeued: readonly RequeuedLeaf[], directory: string): string {
  if (requeued.length === 0) return "No leaf is dead\n";
  const what = requeued.length === 1 ? "1 leaf gets" : `${requeued.length} leaves get`;
  return [
    ...requeued.map(({ unit, leaf }) => `${unit}: ${leaf}`),
    `${what} another chance`,
    `next: ${renderCommand(["eval-hive", "run", directory])}`,
    "",
  ].join("\n");
}
