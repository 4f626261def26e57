import { resolve } from "node:path";
import { ExitCode } from "../../base/errors.ts";
import { readHistory } from "../../events/history.ts";
import { RunLayout } from "../../run/layout.ts";
import { readPlan } from "../../run/plan-file.ts";
import type { CommandContext, CommandResult } from "../command.ts";
import { renderHistory } from "../render/events.ts";

export interface EventsCommandOptions {
  readonly unit?: string;
  readonly leaf?: string;
  readonly type?: readonly string[];
}

/** `events RUN`: what has happened, of everything or of one leaf. */
export async function eventsCommand(
  directory: string,
  options: EventsCommandOptions,
  context: CommandContext,
): Promise<CommandResult> {
  const layout = new RunLayout(resolve(context.cwd, directory));
  // Says what is wrong with a directory that holds no run.
  await readPlan(layout);
  const { unit, leaf, type: types } = options;
  const events = await readHistory(layout.events, {
    ...(unit !== undefined && { unit }),
    ...(leaf !== undefined && { leaf }),
    ...(types !== undefined && { types }),
  });
  return {
    exitCode: ExitCode.done,
    data: { schema_version: 1, run: layout.directory, events },
    text: renderHistory(events),
  };
}
