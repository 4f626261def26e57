import { voidUnitFailures } from "../queue/stopped-units.ts";
import { readStrikes, recordStrike, strikeKey } from "../queue/strikes.ts";
import { readCoverage } from "../run/coverage.ts";
import type { Fingerprint, LeafId, UnitId } from "../run/ids.ts";
import { assertUnits, leavesNamed } from "../run/known-names.ts";
import type { RunLayout } from "../run/layout.ts";
import type { ManifestEntry } from "../run/manifest.ts";
import type { Plan, PlannedUnit } from "../run/plan.ts";
import { readRun } from "../run/read-run.ts";
import { type ReopenOptions, reopenLeaves } from "./reopen.ts";

export interface RequeueOptions extends ReopenOptions {
  readonly layout: RunLayout;
  /** Of these units only. */
  readonly units?: readonly string[];
  /** These leaves only: ids, or names of tasks. */
  readonly leaves?: readonly string[];
}

export interface RequeuedLeaf {
  readonly unit: UnitId;
  readonly leaf: LeafId;
}

/**
 * Gives dead leaves another chance, and units that were given up too: what counted against them so far counts no more. Safe
 * while agents run.
 * @returns the leaves that were dead. @throws {UnknownNameError}
 */
export async function requeue(options: RequeueOptions): Promise<RequeuedLeaf[]> {
  const { layout } = options;
  const { plan, manifest } = await readRun(layout);
  const units = chooseUnits(plan, options.units);
  const isChosen = options.leaves === undefined ? () => true : leavesNamed(plan, options.leaves);
  const at = new Date().toISOString();
  const requeued: RequeuedLeaf[] = [];
  for (const unit of units) {
    const entry = manifest.get(unit.id) as ManifestEntry;
    for (const [leaf, fingerprint] of await deadLeaves(layout, plan, unit, entry)) {
      if (!isChosen(leaf)) continue;
      const record = { kind: "void", command: "requeue", at } as const;
      await recordStrike(layout, unit.id, strikeKey(leaf, fingerprint), record);
      requeued.push({ unit: unit.id, leaf });
    }
  }
  await voidUnitFailures(layout, "requeue", at, new Set(units.map(({ id }) => id)));
  await reopenLeaves(layout, options);
  return requeued;
}

function chooseUnits(plan: Plan, wanted: readonly string[] | undefined): PlannedUnit[] {
  if (wanted === undefined) return [...plan.units];
  assertUnits(plan, wanted);
  return plan.units.filter(({ id }) => wanted.includes(id));
}

/** A leaf file always wins over strikes. */
async function deadLeaves(
  layout: RunLayout,
  plan: Plan,
  { id, profile }: PlannedUnit,
  entry: ManifestEntry,
): Promise<[LeafId, Fingerprint][]> {
  const fingerprints = plan.profiles[profile]?.fingerprints ?? {};
  const { done } = await readCoverage(plan.output_path, entry, fingerprints);
  const strikes = await readStrikes(layout, id);
  return (Object.entries(fingerprints) as [LeafId, Fingerprint][]).filter(
    ([leaf, fingerprint]) =>
      !done.has(leaf) && strikes.get(strikeKey(leaf, fingerprint))?.isDead === true,
  );
}
