import { resolve } from "node:path";
import { ExitCode } from "../../base/errors.ts";
import type { EventEnvelope } from "../../events/event.ts";
import { readHistory, selectHistory } from "../../events/history.ts";
import { assertUnits, leavesNamed } from "../../run/known-names.ts";
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
  const plan = await readPlan(layout);
  const all = await readHistory(layout.events);
  const { unit, leaf, type: types } = options;
  // What an update has taken out of the plan has a history, too.
  if (unit !== undefined) assertUnits(plan, [unit], named(all, "unit"));
  const events = selectHistory(all, {
    ...(unit !== undefined && { unit }),
    ...(leaf !== undefined && { leaf: leavesNamed(plan, [leaf], named(all, "leaf")) }),
    ...(types !== undefined && { types }),
  });
  return {
    exitCode: ExitCode.done,
    data: { schema_version: 1, run: layout.directory, events },
    text: renderHistory(events),
  };
}

function named(events: readonly EventEnvelope[], key: "unit" | "leaf"): string[] {
  return events.flatMap((event) => event[key] ?? []);
}
