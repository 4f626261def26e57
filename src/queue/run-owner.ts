import { type Clock, systemClock } from "../base/clock.ts";
import { ExitCode, OperatorError } from "../base/errors.ts";
import type { RunLayout } from "../run/layout.ts";
import { type Hold, takeHold } from "./hold.ts";
import type { OwnerIdentity, OwnerRecord } from "./owner-record.ts";

/** Thrown when another `run` is at work in the directory, or may be. */
export class RunHeldError extends OperatorError {
  readonly code = "run.held";
  readonly exitCode = ExitCode.environment;
  readonly host: string;
  readonly pid: number;

  constructor(directory: string, holder: OwnerRecord, relation: "here" | "elsewhere") {
    super(
      `Cannot run in "${directory}": process ${holder.pid} on host "${holder.host}" is at work there`,
      {
        hint:
          relation === "here"
            ? `Wait for it, or stop it: kill -INT ${holder.pid}`
            : "Wait for it, or stop it there. If that machine is gone, repeat with --take-over: it watches for 15 minutes, then takes over.",
      },
    );
    this.host = holder.host;
    this.pid = holder.pid;
  }
}

export interface RunHoldOptions {
  /** This process; the `owner` that all its children carry as EH_OWNER. */
  readonly identity: OwnerIdentity;
  readonly clock?: Clock;
  /** Watch a silent holder on another machine for 15 minutes, then take its place. */
  readonly takeOver?: boolean;
  readonly signal?: AbortSignal;
}

const lookAgainMs = 15_000;

/** Takes the right to be the one live `run` of a directory. @throws {RunHeldError} */
export async function holdRun(layout: RunLayout, options: RunHoldOptions): Promise<Hold> {
  const { clock = systemClock, takeOver = false, signal } = options;
  return await takeHold(layout, layout.runOwners, {
    ...options,
    onHeld: async ({ record, relation, verdict }) => {
      const mayWait = relation === "elsewhere" && verdict === "unknown" && takeOver;
      if (!mayWait) throw new RunHeldError(layout.directory, record, relation);
      await clock.sleep(lookAgainMs, signal);
    },
  });
}
