import { mapConcurrently } from "../base/map-concurrently.ts";
import { openFsQueue } from "../queue/fs-queue.ts";
import type { Queue } from "../queue/queue.ts";
import { readStrikes, strikeKey } from "../queue/strikes.ts";
import { readCoverage } from "../run/coverage.ts";
import { type Fingerprint, type LeafId, shardId, type UnitId } from "../run/ids.ts";
import type { RunLayout } from "../run/layout.ts";
import type { ManifestEntry } from "../run/manifest.ts";
import type { Plan } from "../run/plan.ts";
import type { OpenLeaf } from "./batches.ts";

/** What is still to be published for one unit. */
export interface OpenWork {
  /**
   * Leaves without a valid result that are not dead and that no live batch will bring, in the plan's order. Units that
   * have all of their profile's leaves to do share one array.
   */
  readonly open: readonly OpenLeaf[];
  /** Leaves that have a valid result. */
  readonly nCovered: number;
  /** Leaves that a live batch will bring. */
  readonly nWaiting: number;
}

export interface OpenWorkOptions {
  readonly layout: RunLayout;
  readonly plan: Plan;
  readonly entries: ReadonlyMap<UnitId, ManifestEntry>;
  /** The plan whose batches may still be under way; undefined when none are: a new run, or a new epoch. */
  readonly previous: Plan | undefined;
}

/** What has to be published so that every planned leaf gets a result, by unit. Reads names only, never results. */
export async function findOpenWork(options: OpenWorkOptions): Promise<Map<UnitId, OpenWork>> {
  const { layout, plan, entries, previous } = options;
  const queue =
    previous === undefined ? undefined : await openFsQueue({ layout, epoch: previous.epoch });
  const allOf = new Map(Object.keys(plan.profiles).map((name) => [name, allLeaves(plan, name)]));
  const work = await mapConcurrently(plan.units, async ({ id, profile }) => {
    const fingerprints = plan.profiles[profile]?.fingerprints ?? {};
    const covered = await readCoverage(plan.output_path, entryOf(entries, id), fingerprints);
    const strikes = await readStrikes(layout, id);
    const live =
      queue === undefined || previous === undefined
        ? new Map<LeafId, Fingerprint>()
        : await liveLeaves(queue, previous, id);
    const all = allOf.get(profile) ?? [];
    const isFresh = covered.done.size + covered.invalid.size + strikes.size + live.size === 0;
    if (isFresh) return [id, { open: all, nCovered: 0, nWaiting: 0 }] as const;
    let nWaiting = 0;
    const open = all.filter(({ leaf, fingerprint }) => {
      const id = leaf.id as LeafId;
      const settled =
        covered.done.has(id) ||
        covered.invalid.has(id) ||
        strikes.get(strikeKey(id, fingerprint))?.isDead === true;
      const waits = !settled && live.get(id) === fingerprint;
      if (waits) nWaiting += 1;
      return !settled && !waits;
    });
    const shared = open.length === all.length ? all : open;
    return [id, { open: shared, nCovered: covered.done.size, nWaiting }] as const;
  });
  return new Map(work);
}

function allLeaves({ profiles, leaves }: Plan, profile: string): OpenLeaf[] {
  const fingerprints = Object.entries<Fingerprint>(profiles[profile]?.fingerprints ?? {});
  return fingerprints.flatMap(([id, fingerprint]) => {
    const leaf = leaves[id as LeafId];
    return leaf === undefined ? [] : [{ leaf, fingerprint }];
  });
}

/** Leaves in batches that are ready or owned, with the fingerprint under which they will be evaluated. */
async function liveLeaves(
  queue: Queue,
  previous: Plan,
  unit: UnitId,
): Promise<Map<LeafId, Fingerprint>> {
  const live = new Map<LeafId, Fingerprint>();
  const planned = previous.units.find(({ id }) => id === unit);
  if (planned === undefined) return live;
  const fingerprints = previous.profiles[planned.profile]?.fingerprints ?? {};
  for (const generation of planned.generations) {
    const shard = shardId(unit, generation);
    const { batches: states, folded } = await queue.census(shard);
    if (folded) continue;
    for (const batch of await queue.batches(shard)) {
      if (states.get(batch.id)?.kind === "done") continue;
      for (const leaf of batch.leaves) {
        const fingerprint = fingerprints[leaf];
        if (fingerprint !== undefined) live.set(leaf, fingerprint);
      }
    }
  }
  return live;
}

function entryOf(entries: ReadonlyMap<UnitId, ManifestEntry>, id: UnitId): ManifestEntry {
  const entry = entries.get(id);
  if (entry === undefined) throw new TypeError(`Unit "${id}" of the plan is not in the manifest`);
  return entry;
}
