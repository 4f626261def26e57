import { join } from "node:path";
import type { LeafId, OwnerId, ShardId, UnitId } from "./ids.ts";
import { type Fingerprint, shortFingerprint } from "./ids.ts";
import type { ManifestEntry } from "./manifest.ts";

/** Every path of a run directory. Pure: nothing here looks at the disk. */
export class RunLayout {
  /** Absolute. */
  readonly directory: string;

  constructor(directory: string) {
    this.directory = directory;
  }

  get config(): string {
    return join(this.directory, "eh_config.yaml");
  }
  get manifest(): string {
    return join(this.directory, "eh_manifest.json");
  }
  get taskMap(): string {
    return join(this.directory, "eh_task_map.json");
  }
  get plan(): string {
    return join(this.directory, "eh_plan.json");
  }
  get scores(): string {
    return join(this.directory, "scores.parquet");
  }

  get queue(): string {
    return join(this.directory, "queue");
  }
  /** `epoch.<n>`: exclusive empty files; the highest number is the queue's epoch. */
  get epochs(): string {
    return join(this.queue, "epochs");
  }
  epoch(epoch: number): string {
    return join(this.queue, `e${epoch}`);
  }
  /** Heartbeat of an owner; exists before its first claim. */
  heartbeat(owner: OwnerId): string {
    return join(this.heartbeats, owner);
  }
  get heartbeats(): string {
    return join(this.queue, "owners");
  }
  /** Asks an owner on another machine to stop: obeyed at its next beat. */
  evictNote(owner: OwnerId): string {
    return join(this.heartbeats, `${owner}.evict`);
  }
  /** Exclusive records `{leaf id}.{fp12}.{n}`, one directory per unit. */
  strikes(unit: UnitId): string {
    return join(this.allStrikes, unit);
  }
  get allStrikes(): string {
    return join(this.queue, "strikes");
  }
  /** Exclusive records `{unit}.{n}.json`: why the unit was stopped. */
  get stoppedUnits(): string {
    return join(this.queue, "stopped-units");
  }
  /** Exclusive records `<n>`: the highest one is that of the live `run` on this directory. */
  get runOwners(): string {
    return join(this.queue, "run-owner");
  }
  /** Exclusive records `<n>`: the highest one is that of whoever replaces the plan. */
  get planOwners(): string {
    return join(this.queue, "plan-owner");
  }

  get events(): string {
    return join(this.directory, "events");
  }
  get logs(): string {
    return join(this.directory, "logs");
  }
  /** Answered requests of leaves in progress, one directory per unit: there only while there are any. */
  get journals(): string {
    return join(this.directory, "journals");
  }
  get progress(): string {
    return join(this.directory, "progress");
  }
  get completedUnits(): string {
    return join(this.progress, "jobs_completed.log");
  }
  get failedUnits(): string {
    return join(this.progress, "jobs_failed.log");
  }

  /** One spec file per shard. */
  specs(epoch: number): string {
    return join(this.epoch(epoch), "specs");
  }
  /** One directory of entries per opened shard, and dotted staging directories of those being opened. */
  shards(epoch: number): string {
    return join(this.epoch(epoch), "shards");
  }
  /**
   * Spec file, entry directory, folded summary of a shard. The summary lies inside the entry directory and keeps it from
   * ever being empty, so that a late opener can't put a folded shard back.
   */
  shard(epoch: number, shard: ShardId): { spec: string; entries: string; folded: string } {
    const entries = join(this.shards(epoch), shard);
    return {
      spec: join(this.specs(epoch), `${shard}.json`),
      entries,
      folded: join(entries, "folded.json"),
    };
  }
}

/** `{output_path}/{model_key}/{label}`: where all tools keep a unit's results. */
export function unitResultsDirectory(
  outputPath: string,
  entry: Pick<ManifestEntry, "model_key" | "label">,
): string {
  return join(outputPath, entry.model_key, entry.label);
}

/** The directory of a unit's leaf files. */
export function leafDirectory(
  outputPath: string,
  entry: Pick<ManifestEntry, "model_key" | "label">,
): string {
  return join(unitResultsDirectory(outputPath, entry), "eval-hive");
}

/** The one name of a leaf's result: that this file is there means "done". */
export function leafFileName(leaf: LeafId, fingerprint: Fingerprint): string {
  return `results_${leaf}.${shortFingerprint(fingerprint)}.json`;
}

/** The name that an evaluation gets whose scores can't be trusted. */
export function invalidFileName(leaf: LeafId, fingerprint: Fingerprint): string {
  return `invalid_${leaf}.${shortFingerprint(fingerprint)}.json`;
}
