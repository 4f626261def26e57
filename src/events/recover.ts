import { join } from "node:path";
import type { UnitCoverage } from "../run/coverage.ts";
import type { Fingerprint, LeafId, UnitId } from "../run/ids.ts";
import { invalidFileName, leafFileName } from "../run/layout.ts";
import type { EventEnvelope, EventSink } from "./event.ts";
import { readEvents } from "./reader.ts";

/** A unit whose leaf files are compared with the events. */
export interface RecoverableUnit {
  readonly id: UnitId;
  /** Of its leaf files. */
  readonly directory: string;
  readonly coverage: UnitCoverage;
  readonly fingerprints: Readonly<Record<LeafId, Fingerprint>>;
}

/** A leaf file without its event: its writer died between the two. */
export interface UnrecordedLeaf {
  readonly unit: UnitId;
  readonly leaf: LeafId;
  readonly fingerprint: Fingerprint;
  /** Path of its file. */
  readonly result: string;
  readonly valid: boolean;
}

/**
 * Leaf files that no event speaks of. Reads all events once.
 * @param units whose coverage was read before this call: it may be older, never newer, than the events
 */
export async function findUnrecorded(
  eventsDirectory: string,
  units: readonly RecoverableUnit[],
): Promise<UnrecordedLeaf[]> {
  const recorded = new Set<string>();
  await readEvents(eventsDirectory, new Map(), (event: EventEnvelope) => {
    if (event.type !== "leaf.done" && event.type !== "leaf.invalid") return;
    recorded.add(keyOf(event.unit, event.leaf, event.fingerprint));
  });
  return units.flatMap(({ id: unit, directory, coverage, fingerprints }) =>
    Object.entries<Fingerprint>(fingerprints).flatMap(([id, fingerprint]): UnrecordedLeaf[] => {
      const leaf = id as LeafId;
      const valid = coverage.done.has(leaf);
      if (!valid && !coverage.invalid.has(leaf)) return [];
      if (recorded.has(keyOf(unit, leaf, fingerprint))) return [];
      const name = valid ? leafFileName : invalidFileName;
      const result = join(directory, name(leaf, fingerprint));
      return [{ unit, leaf, fingerprint, result, valid }];
    }),
  );
}

/**
 * Publishes their events, marked `recovered`: durations and counts are 0. Two that do so at once repeat each other, which
 * changes no count.
 */
export async function recordFound(
  leaves: readonly UnrecordedLeaf[],
  sink: EventSink,
): Promise<void> {
  await Promise.all(
    leaves.map(async ({ unit, leaf, fingerprint, result, valid }) => {
      if (valid) {
        const body = { ...unmeasured, fingerprint, result };
        await sink.publish("leaf.done", { unit, leaf }, body);
      } else {
        const reason = `its writer died before it could say why: see "${result}"`;
        await sink.publish("leaf.invalid", { unit, leaf }, { fingerprint, result, reason });
      }
    }),
  );
}

const unmeasured = {
  outcome: "existing",
  n_samples: 0,
  n_requests: 0,
  load_s: 0,
  requests_s: 0,
  total_s: 0,
  recovered: true,
} as const;

function keyOf(unit: unknown, leaf: unknown, fingerprint: unknown): string {
  return `${unit}\n${leaf}\n${fingerprint}`;
}
