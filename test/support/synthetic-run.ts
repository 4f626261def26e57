/** Run directories as create-run would have left them, without a harness: for tests and benchmarks of what reads runs. */
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { mapConcurrently } from "../../src/base/map-concurrently.ts";
import type { Leaf } from "../../src/lmeval/task-tree.ts";
import { beginEpoch } from "../../src/queue/epoch.ts";
import { openFsQueue } from "../../src/queue/fs-queue.ts";
import type { Batch } from "../../src/queue/queue.ts";
import {
  type BatchId,
  type Fingerprint,
  type LeafId,
  shardId,
  type UnitId,
  unitId,
} from "../../src/run/ids.ts";
import { invalidFileName, leafDirectory, leafFileName, RunLayout } from "../../src/run/layout.ts";
import { type Manifest, type ManifestEntry, writeManifest } from "../../src/run/manifest.ts";
import type { Plan } from "../../src/run/plan.ts";
import { writePlan } from "../../src/run/plan-file.ts";

export interface SyntheticRun {
  readonly layout: RunLayout;
  readonly plan: Plan;
  readonly manifest: Manifest;
  /** Writes the files of these leaves, empty: nobody may read them. */
  settle(unit: UnitId, leaves: readonly LeafId[], valid?: boolean): Promise<void>;
  /** Where a unit's leaf files are. */
  leafDirectory(unit: UnitId): string;
}

export interface SyntheticOptions {
  readonly directory: string;
  readonly units: number;
  readonly leaves: number;
  /** Batches of one leaf unless given. */
  readonly leavesPerBatch?: number;
  /** Bytes of each leaf's `inputs` in the plan. */
  readonly inputBytes?: number;
  readonly notFound?: Plan["not_found"];
}

/** Leaf `n` of every synthetic run. */
export function leafAt(n: number): LeafId {
  return `task_${String(n).padStart(4, "0")}` as LeafId;
}

/** Unit `n` of every synthetic run. */
export function unitAt(n: number): UnitId {
  return unitId("model", labelAt(n));
}

function labelAt(n: number): string {
  return `step_${n * 100}`;
}

export function fingerprintAt(n: number): Fingerprint {
  return `fp1:${n.toString(16).padStart(12, "0")}${"0".repeat(52)}` as Fingerprint;
}

export async function makeSyntheticRun(options: SyntheticOptions): Promise<SyntheticRun> {
  const layout = new RunLayout(join(options.directory, "runs", "my-run"));
  const plan = syntheticPlan(options);
  const manifest = new Map(
    plan.units.map(({ id }, n): [UnitId, ManifestEntry] => [id, manifestEntry(n)]),
  );
  await mkdir(layout.directory, { recursive: true });
  await publish(layout, plan, options.leavesPerBatch ?? 1);
  await writeManifest(layout, manifest);
  await writePlan(layout, plan);
  const directoryOf = (unit: UnitId): string =>
    leafDirectory(plan.output_path, manifest.get(unit) as ManifestEntry);
  return {
    layout,
    plan,
    manifest,
    leafDirectory: directoryOf,
    settle: async (unit, leaves, valid = true) => {
      const directory = directoryOf(unit);
      await mkdir(directory, { recursive: true });
      const name = valid ? leafFileName : invalidFileName;
      const { fingerprints } = plan.profiles.default as Plan["profiles"][string];
      await mapConcurrently(leaves, async (leaf) => {
        await writeFile(join(directory, name(leaf, fingerprints[leaf] as Fingerprint)), "");
      });
    },
  };
}

async function publish(layout: RunLayout, plan: Plan, leavesPerBatch: number): Promise<void> {
  await beginEpoch(layout, plan.epoch);
  await using queue = await openFsQueue({ layout });
  const leaves = Object.keys(plan.leaves) as LeafId[];
  await mapConcurrently([...plan.units.entries()], async ([n, { id }]) => {
    const batches: Batch[] = [];
    for (let from = 0; from < leaves.length; from += leavesPerBatch) {
      const batch = `u${n}-b${from}` as BatchId;
      batches.push({ id: batch, leaves: leaves.slice(from, from + leavesPerBatch) });
    }
    await queue.publish(shardId(id, 0), batches);
  });
}

function manifestEntry(n: number): ManifestEntry {
  return {
    model_key: "model",
    label: labelAt(n),
    step: n * 100,
    model_path: `/models/model/${labelAt(n)}`,
    display_name: "Model",
    train_batch_size: 1024,
    tokens_trained: n * 102_400,
  };
}

/** The plan of such a run. Pure. */
export function syntheticPlan({
  directory,
  units,
  leaves,
  inputBytes = 100,
  notFound = [],
}: SyntheticOptions): Plan {
  const numbers = Array.from({ length: leaves }, (_, n) => n);
  const half = Math.ceil(leaves / 2);
  return {
    schema_version: 1,
    run_id: "synthetic",
    eval_hive_version: "0.1.0",
    created_at: "2026-11-24T04:00:00.000Z",
    updated_at: "2026-11-24T04:00:00.000Z",
    epoch: 1,
    config_file: join(directory, "eh_config.yaml"),
    config_sha256: "0".repeat(64),
    job_name: "eval-hive",
    working_directory: directory,
    output_path: join(directory, "results"),
    eval_suite_path: null,
    harness: {
      argv: ["python3"],
      versions: {
        python: "3.11.2",
        lm_eval: "0.4.13",
        lm_eval_sha256: "0".repeat(64),
        datasets: null,
        transformers: null,
        torch: null,
      },
      store: join(directory, "runs", ".eval-hive", "0"),
    },
    in_config_order: false,
    profiles: {
      default: {
        server_command: "serve",
        num_servers: 1,
        slots: 2,
        env_vars: {},
        health_check_max_wait_s: 600,
        health_check_interval_s: 10,
        server_start_max_attempts: 3,
        model_args: {},
        lm_eval_args: {},
        request_timeout_s: 60,
        request_retries: 3,
        request_cache_dir: null,
        journal: null,
        phase_timeout_s: 7_200,
        engine: "fast",
        offline: "auto",
        inputs: {},
        fingerprints: Object.fromEntries(numbers.map((n) => [leafAt(n), fingerprintAt(n)])),
      },
    },
    suites: [
      suiteOf("first_half", numbers.slice(0, half)),
      suiteOf("second_half", numbers.slice(half)),
    ],
    leaves: Object.fromEntries(numbers.map((n) => [leafAt(n), leafOf(n, inputBytes)])),
    units: Array.from({ length: units }, (_, n) => ({
      id: unitAt(n),
      profile: "default",
      generations: [0],
      n_covered: 0,
    })),
    not_found: [...notFound],
    excluded: [],
    warnings: [],
  };
}

function suiteOf(name: string, numbers: readonly number[]): Plan["suites"][number] {
  const empty = { alias: null, version: null, aggregation: [], missing: [] };
  const children = numbers.map((n) => ({
    ...empty,
    name: leafAt(n) as string,
    kind: "leaf" as const,
    leaf_id: leafAt(n) as string,
    children: [],
  }));
  return { ...empty, name, kind: "tag", leaf_id: null, children };
}

function leafOf(n: number, inputBytes: number): Leaf {
  return {
    id: leafAt(n),
    name: leafAt(n),
    source: { kind: "task", yaml_path: `/tasks/${leafAt(n)}.yaml` },
    overrides: {},
    output_type: "multiple_choice",
    dataset: { path: "json", name: null },
    num_fewshot: 0,
    max_gen_toks: null,
    generation_kwargs: null,
    repeats: 1,
    filters: ["none"],
    metrics: [{ metric: "acc", aggregation: "mean", higher_is_better: true }],
    unsafe_code: false,
    python_class: null,
    version: 1,
    inputs: { config: "x".repeat(inputBytes) },
  };
}
