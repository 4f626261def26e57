/**
 * progress/: what people and tools of the Python eval-hive read. Nothing here reads it back: leaf files say what is done.
 * Written by whoever plans, or holds the directory as `run` does.
 */
import { ensureDirectory, readTextIfThere, writeFileAtomic } from "../base/files.ts";
import type { RunState, UnitState } from "../events/run-state.ts";
import type { UnitId } from "../run/ids.ts";
import type { RunLayout } from "../run/layout.ts";

/** jobs_completed.log, anew: the units whose every planned leaf has a valid result, one a line. */
export async function writeCompletedUnits(
  layout: RunLayout,
  units: readonly UnitId[],
): Promise<void> {
  const text = units.map((unit) => `${unit}\n`).join("");
  if ((await readTextIfThere(layout.completedUnits)) === text) return;
  await ensureDirectory(layout.progress);
  await writeFileAtomic(layout.completedUnits, text);
}

export interface AgentsEnd {
  /** Job id; `local` without Slurm. */
  readonly job: string;
  readonly at: Date;
  /** A person has ended them. */
  readonly interrupted: boolean;
  /** They could not work, or died. */
  readonly isFailure: boolean;
}

/** Adds what has become of the units that are not done to jobs_failed.log; what is there stays. */
export async function addFailedUnits(
  layout: RunLayout,
  state: RunState,
  end: AgentsEnd,
): Promise<void> {
  const lines = failedUnitLines(state, end);
  if (lines.length === 0) return;
  const before = (await readTextIfThere(layout.failedUnits)) ?? "";
  await ensureDirectory(layout.progress);
  await writeFileAtomic(layout.failedUnits, before + lines.map((line) => `${line}\n`).join(""));
}

/** `KEY DATE TIME REASON JOBID INFO...`, in UTC, with the reasons of the Python eval-hive. Pure. */
export function failedUnitLines({ units }: RunState, end: AgentsEnd): string[] {
  const [date, time] = end.at.toISOString().slice(0, 19).split("T");
  return units.flatMap((unit) => {
    const why = whyFailed(unit, end);
    if (why === undefined) return [];
    const info = why.info.replaceAll(/\s+/g, " ");
    return [`${unit.unit} ${date} ${time} ${why.reason} ${end.job} ${info}`];
  });
}

type Reason = "server_startup_failed" | "eval_failures" | "manual_cancellation";

function whyFailed(
  { state, stopped, leaves }: UnitState,
  { interrupted, isFailure }: AgentsEnd,
): { readonly reason: Reason; readonly info: string } | undefined {
  if (stopped !== null) {
    const isStart = stopped.class === "server-start" || stopped.class === "server-unfit";
    const reason = isStart ? "server_startup_failed" : "eval_failures";
    return { reason, info: `${stopped.class}: ${stopped.reason}` };
  }
  const { done, total, dead, invalid } = leaves;
  const info = `${done} of ${total} leaves done, ${dead} dead, ${invalid} invalid`;
  if (state === "failed") return { reason: "eval_failures", info };
  if (state !== "pending") return undefined;
  if (isFailure) return { reason: "eval_failures", info };
  return interrupted ? { reason: "manual_cancellation", info } : undefined;
}
