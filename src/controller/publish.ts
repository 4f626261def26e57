import { isDeepStrictEqual } from "node:util";
import { mapConcurrently } from "../base/map-concurrently.ts";
import { openFsQueue } from "../queue/fs-queue.ts";
import type { Batch, Queue } from "../queue/queue.ts";
import { shardId, type UnitId } from "../run/ids.ts";
import type { RunLayout } from "../run/layout.ts";
import type { Plan, PlannedUnit } from "../run/plan.ts";
import { cutBatches } from "./batches.ts";
import type { OpenWork } from "./open-work.ts";

/** A new generation per unit with open leaves, in the queue but not yet in the plan on disk. */
export interface Published {
  readonly units: readonly PlannedUnit[];
  readonly nLeaves: number;
  readonly nBatches: number;
}

/**
 * Publishes open leaves, a new generation of each unit's shard. Nobody works on them before the plan names them, so a
 * crash on the way costs nothing: the next call finds the same files, or passes over them.
 */
export async function publishOpenWork(
  layout: RunLayout,
  plan: Plan,
  work: ReadonlyMap<UnitId, OpenWork>,
): Promise<Published> {
  await using queue = await openFsQueue({ layout, epoch: plan.epoch });
  let nLeaves = 0;
  let nBatches = 0;
  const units = await mapConcurrently(plan.units, async (unit): Promise<PlannedUnit> => {
    const { open, nCovered } = work.get(unit.id) ?? { open: [], nCovered: 0 };
    if (open.length === 0) return { ...unit, n_covered: nCovered };
    nLeaves += open.length;
    const cut = (generation: number): Batch[] =>
      cutBatches(open, { unit: unit.id, generation, inConfigOrder: plan.in_config_order });
    const { generation, batches } = await publishGeneration(queue, unit, cut);
    nBatches += batches.length;
    return { ...unit, generations: [...unit.generations, generation], n_covered: nCovered };
  });
  return { units, nLeaves, nBatches };
}

/** The first free generation, or one that a crashed call published with the same batches and that nobody has opened. */
async function publishGeneration(
  queue: Queue,
  unit: PlannedUnit,
  cut: (generation: number) => Batch[],
): Promise<{ generation: number; batches: readonly Batch[] }> {
  for (let generation = (unit.generations.at(-1) ?? -1) + 1; ; generation++) {
    const shard = shardId(unit.id, generation);
    const batches = cut(generation);
    if (await queue.publish(shard, batches)) return { generation, batches };
    // An opened one may be done: the unit had left the plan, and came back.
    const isSpare = !(await queue.census(shard)).opened;
    if (isSpare && isDeepStrictEqual(await queue.batches(shard), batches)) {
      return { generation, batches };
    }
  }
}
