import { resolve } from "node:path";
import {
  EnvironmentError,
  ExitCode,
  errnoAdvice,
  errnoName,
  messageOf,
} from "../../base/errors.ts";
import { readRunLook } from "../../controller/status.ts";
import { RunLayout } from "../../run/layout.ts";
import { cacheDirectory } from "../cache-directory.ts";
import type { CommandContext, CommandResult } from "../command.ts";
import { renderStatus, statusData } from "../render/status.ts";

/** `status RUN`: what is done, running, failed and open. Exit code 0 whenever the run could be read, whatever its state. */
export async function statusCommand(
  directory: string,
  options: { readonly detailed?: boolean },
  context: CommandContext,
): Promise<CommandResult> {
  const layout = new RunLayout(resolve(context.cwd, directory));
  const look = await reading(
    layout,
    async () => await readRunLook(layout, { cacheDirectory: cacheDirectory(context.env) }),
  );
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
