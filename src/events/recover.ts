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

/**
 * Publishes the event of each leaf file that has none: its writer died between the two. Only for commands and agents that
 * may write; two that do so at once repeat each other, which changes no count. Its durations and counts are 0.
 * @param eventsDirectory read first; coverage read before that may be older, never newer, than the events
 * @returns how many leaves were recorded.
 */
export async function recoverEvents(
  eventsDirectory: string,
  units: readonly RecoverableUnit[],
  sink: EventSink,
): Promise<number> {
  const recorded = new Set<string>();
  await readEvents(eventsDirectory, new Map(), (event: EventEnvelope) => {
    if (event.type !== "leaf.done" && event.type !== "leaf.invalid") return;
    recorded.add(keyOf(event.unit, event.leaf, event.fingerprint));
  });
  const published: Promise<void>[] = [];
  for (const { id: unit, directory, coverage, fingerprints } of units) {
    for (const leaf of coverage.done) {
      const fingerprint = fingerprints[leaf];
      if (fingerprint === undefined || recorded.has(keyOf(unit, leaf, fingerprint))) continue;
      const result = join(directory, leafFileName(leaf, fingerprint));
      published.push(
        sink.publish("leaf.done", { unit, leaf }, { ...unmeasured, fingerprint, result }),
      );
    }
    for (const leaf of coverage.invalid) {
      const fingerprint = fingerprints[leaf];
      if (fingerprint === undefined || recorded.has(keyOf(unit, leaf, fingerprint))) continue;
      const result = join(directory, invalidFileName(leaf, fingerprint));
      const reason = `its writer died before it could say why: see "${result}"`;
      published.push(sink.publish("leaf.invalid", { unit, leaf }, { fingerprint, result, reason }));
    }
  }
  await Promise.all(published);
  return published.length;
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
