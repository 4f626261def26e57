import { StrikeView, strikeKey } from "../queue/strikes.ts";
import type { UnitCoverage } from "../run/coverage.ts";
import { type LeafFileIndex, readUnitCoverage } from "../run/coverage.ts";
import type { Fingerprint, LeafId, ShardId } from "../run/ids.ts";
import { shardId } from "../run/ids.ts";
import { leafDirectory, type RunLayout } from "../run/layout.ts";
import type { ManifestEntry } from "../run/manifest.ts";
import type { Plan, PlannedUnit, Profile } from "../run/plan.ts";

/** A unit as an agent works on it: everything that the plan says about it, in one place. */
export interface WorkUnit {
  readonly planned: PlannedUnit;
  readonly entry: ManifestEntry;
  readonly profile: Profile;
  readonly plan: Plan;
  readonly layout: RunLayout;
  readonly shards: readonly ShardId[];
  /** Of its leaf files. */
  readonly directory: string;
  readonly leafFiles: LeafFileIndex;
  readonly strikes: StrikeView;
}

export function workUnit(
  layout: RunLayout,
  plan: Plan,
  planned: PlannedUnit,
  entry: ManifestEntry,
  leafFiles: LeafFileIndex,
): WorkUnit {
  const profile = plan.profiles[planned.profile];
  if (profile === undefined) throw new TypeError(`No profile "${planned.profile}" in the plan`);
  return {
    planned,
    entry,
    profile,
    plan,
    layout,
    shards: planned.generations.map((generation) => shardId(planned.id, generation)),
    directory: leafDirectory(plan.output_path, entry),
    leafFiles,
    strikes: new StrikeView(layout, planned.id),
  };
}

/** Variables that name the unit to servers and harness. */
export function unitVariables({ planned, entry }: WorkUnit): Record<string, string> {
  return {
    EH_TASK_KEY: planned.id,
    EH_MODEL_KEY: entry.model_key,
    EH_LABEL: entry.label,
    EH_MODEL_PATH: entry.model_path,
  };
}

/** What is known of a unit's leaves on disk at one time. */
export interface UnitState {
  readonly coverage: UnitCoverage;
  readonly dead: ReadonlySet<LeafId>;
}

/** One readdir of leaf files, and one of strikes if there are new ones. */
export async function readUnitState(unit: WorkUnit): Promise<UnitState> {
  const coverage = await readUnitCoverage(unit.directory, unit.leafFiles);
  const strikes = await unit.strikes.read();
  const dead = new Set<LeafId>();
  for (const [leaf, fingerprint] of fingerprintsOf(unit)) {
    const isDead = strikes.get(strikeKey(leaf, fingerprint))?.isDead === true;
    // A leaf file always wins over strikes.
    if (isDead && !coverage.done.has(leaf)) dead.add(leaf);
  }
  return { coverage, dead };
}

/** Of these leaves, or all, those that are still to be evaluated: planned, without a file, not dead. Pure. */
export function openLeaves(
  unit: WorkUnit,
  { coverage, dead }: UnitState,
  leaves: readonly LeafId[] = fingerprintsOf(unit).map(([leaf]) => leaf),
): LeafId[] {
  return leaves.filter(
    (leaf) =>
      unit.profile.fingerprints[leaf] !== undefined &&
      unit.plan.leaves[leaf] !== undefined &&
      !coverage.done.has(leaf) &&
      !coverage.invalid.has(leaf) &&
      !dead.has(leaf),
  );
}

/** Those that are still to be evaluated now. */
export async function readOpenLeaves(
  unit: WorkUnit,
): Promise<{ readonly id: LeafId; readonly fingerprint: Fingerprint }[]> {
  const open = openLeaves(unit, await readUnitState(unit));
  return open.map((id) => ({ id, fingerprint: fingerprintOf(unit, id) }));
}

export function fingerprintsOf(unit: WorkUnit): [LeafId, Fingerprint][] {
  return Object.entries(unit.profile.fingerprints) as [LeafId, Fingerprint][];
}

export function fingerprintOf(unit: WorkUnit, leaf: LeafId): Fingerprint {
  const fingerprint = unit.profile.fingerprints[leaf];
  if (fingerprint === undefined) throw new TypeError(`Leaf "${leaf}" is not planned`);
  return fingerprint;
}
