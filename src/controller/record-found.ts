import { hostname } from "node:os";
import { mapConcurrently } from "../base/map-concurrently.ts";
import { openJournal } from "../events/journal.ts";
import { findUnrecorded, type RecoverableUnit, recordFound } from "../events/recover.ts";
import { readCoverage } from "../run/coverage.ts";
import { leafDirectory, type RunLayout } from "../run/layout.ts";
import type { Manifest } from "../run/manifest.ts";
import type { Plan } from "../run/plan.ts";

/**
 * Writes the events of leaf files that have none: an agent died between the two, or another run with the same output_path
 * evaluated the leaf. @returns how many there were.
 */
export async function recordFoundLeaves(
  layout: RunLayout,
  plan: Plan,
  manifest: Manifest,
): Promise<number> {
  const units = await mapConcurrently(plan.units, async ({ id, profile }) => {
    const entry = manifest.get(id);
    const fingerprints = plan.profiles[profile]?.fingerprints;
    if (entry === undefined || fingerprints === undefined) return [];
    const coverage = await readCoverage(plan.output_path, entry, fingerprints);
    const directory = leafDirectory(plan.output_path, entry);
    return [{ id, directory, coverage, fingerprints }] satisfies RecoverableUnit[];
  });
  const found = await findUnrecorded(layout.events, units.flat());
  if (found.length === 0) return 0;
  await using journal = await openJournal({
    layout,
    runId: plan.run_id,
    node: hostname(),
    role: "run",
  });
  await recordFound(found, journal);
  return found.length;
}
