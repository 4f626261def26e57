import { randomBytes } from "node:crypto";
import { identifyThisProcess } from "../queue/owner-record.ts";
import { holdPlanning } from "../queue/planning-hold.ts";
import type { RunLayout } from "../run/layout.ts";
import { writePlan } from "../run/plan-file.ts";
import { readRun } from "../run/read-run.ts";
import { findOpenWork } from "./open-work.ts";
import { publishOpenWork } from "./publish.ts";

export interface ReopenOptions {
  /** Ends waiting for somebody else who is planning. */
  readonly signal: AbortSignal;
  readonly say: (message: string) => void;
}

/**
 * Publishes leaves that have no result and that no batch will bring: somebody removed a leaf file, or gave a dead leaf
 * another chance. Safe while agents run, which see them soon.
 * @returns how many.
 */
export async function reopenLeaves(
  layout: RunLayout,
  { signal, say }: ReopenOptions,
): Promise<number> {
  if ((await findReopened(layout)).nLeaves === 0) return 0;
  const identity = await identifyThisProcess(
    `plan-p${process.pid}-${randomBytes(4).toString("hex")}`,
  );
  await using _hold = await holdPlanning(layout, { identity, signal, say });
  const { plan, work, nLeaves } = await findReopened(layout);
  if (nLeaves === 0) return 0;
  const { units } = await publishOpenWork(layout, plan, work);
  await writePlan(layout, { ...plan, units: [...units], updated_at: new Date().toISOString() });
  return nLeaves;
}

async function findReopened(layout: RunLayout) {
  const { plan, manifest: entries } = await readRun(layout);
  const work = await findOpenWork({ layout, plan, entries, previous: plan });
  const nLeaves = [...work.values()].reduce((sum, { open }) => sum + open.length, 0);
  return { plan, work, nLeaves };
}
