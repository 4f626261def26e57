/** A run directory with leaf files, as create-run and the harness leave them, made of the real files in fixtures/results. */
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { sha256 } from "../../src/base/hash.ts";
import { stringifyJson } from "../../src/base/json.ts";
import type { Leaf, SuiteNode } from "../../src/lmeval/task-tree.ts";
import type { Fingerprint, LeafId } from "../../src/run/ids.ts";
import { unitId } from "../../src/run/ids.ts";
import { invalidFileName, leafDirectory, leafFileName, RunLayout } from "../../src/run/layout.ts";
import type { ManifestEntry } from "../../src/run/manifest.ts";
import { Plan } from "../../src/run/plan.ts";

const fixtures = join(import.meta.dirname, "../fixtures/results");

export const tasks = [
  "eh_choice",
  "eh_cloze",
  "eh_generate",
  "eh_rolling",
  "fin_eh_lengths",
  "german_eh_bpb",
] as const;

export function leafOf(name: string, more: Partial<Leaf> = {}): Leaf {
  return {
    id: name,
    name,
    source: { kind: "task", yaml_path: `/suite/${name}.yaml` },
    overrides: {},
    output_type: "multiple_choice",
    dataset: { path: "json", name: null },
    num_fewshot: 0,
    max_gen_toks: null,
    generation_kwargs: null,
    repeats: 1,
    filters: ["none"],
    metrics: [],
    unsafe_code: false,
    python_class: null,
    version: 1,
    inputs: {},
    ...more,
  };
}

export function nodeOf(
  kind: SuiteNode["kind"],
  name: string,
  children: SuiteNode[] = [],
  leafId = name,
): SuiteNode {
  const leaf_id = kind === "leaf" ? leafId : null;
  return {
    name,
    kind,
    leaf_id,
    alias: null,
    version: null,
    children,
    aggregation: [],
    missing: [],
  };
}

export function fingerprintOf(leaf: string): Fingerprint {
  return `fp1:${sha256(leaf)}` as Fingerprint;
}

export function entryOf(modelKey: string, label: string, more: Partial<ManifestEntry> = {}) {
  return {
    model_key: modelKey,
    label,
    step: null,
    model_path: `/models/${modelKey}/${label}`,
    display_name: `The ${modelKey}`,
    train_batch_size: null,
    tokens_trained: null,
    ...more,
  };
}

/** A plan of these leaves for these units; its harness does not exist. */
export function planOf(
  outputPath: string,
  entries: readonly ManifestEntry[],
  leaves: readonly Leaf[],
  suites: readonly SuiteNode[],
): Plan {
  const profile = {
    server_command: null,
    num_servers: 1,
    slots: 1,
    env_vars: {},
    health_check_max_wait_s: 1,
    health_check_interval_s: 1,
    server_start_max_attempts: 1,
    model_args: {},
    lm_eval_args: {},
    request_timeout_s: 1,
    request_retries: 1,
    request_cache_dir: null,
    phase_timeout_s: 7_200,
    engine: "fast",
    offline: "auto" as const,
    inputs: {},
    fingerprints: Object.fromEntries(leaves.map(({ id }) => [id, fingerprintOf(id)])),
  };
  const versions = { python: "3.11", lm_eval: "0.4.13", lm_eval_sha256: "0" };
  return Plan.parse({
    schema_version: 1,
    run_id: "run-1",
    eval_hive_version: "0.1.0",
    created_at: "2026-11-24T00:00:00.000Z",
    updated_at: "2026-11-24T00:00:00.000Z",
    epoch: 1,
    config_file: "/c.yaml",
    config_sha256: "0",
    job_name: "eval-hive",
    working_directory: "/",
    output_path: outputPath,
    eval_suite_path: null,
    harness: {
      argv: ["python3"],
      versions: { ...versions, datasets: null, transformers: null, torch: null },
      store: "/store",
    },
    in_config_order: false,
    profiles: { default: profile },
    suites,
    leaves: Object.fromEntries(leaves.map((leaf) => [leaf.id, leaf])),
    units: entries.map(({ model_key, label }) => ({
      id: unitId(model_key, label),
      profile: "default",
      generations: [0],
      n_covered: 0,
    })),
    not_found: [],
    excluded: [],
    warnings: [],
  });
}

/** Writes plan and manifest. */
export async function writeRun(
  layout: RunLayout,
  plan: Plan,
  entries: readonly ManifestEntry[],
): Promise<void> {
  await mkdir(layout.events, { recursive: true });
  await writeFile(layout.plan, stringifyJson(plan));
  const manifest = Object.fromEntries(
    entries.map((entry) => [unitId(entry.model_key, entry.label), entry]),
  );
  await writeFile(layout.manifest, stringifyJson(manifest, 2));
}

/** Writes a leaf file: a real one of lm_eval with our block at its end. */
export async function writeLeaf(
  outputPath: string,
  entry: ManifestEntry,
  leaf: string,
  options: {
    readonly task?: string;
    readonly version?: "0.4.12" | "0.4.13";
    readonly fingerprint?: string;
    readonly edit?: (text: string) => string;
    readonly invalid?: boolean;
    /** More of our block. */
    readonly block?: Readonly<Record<string, string | null>>;
  } = {},
): Promise<string> {
  const { task = leaf, version = "0.4.13", fingerprint = fingerprintOf(leaf) } = options;
  const text = await readFile(join(fixtures, `${task}.lm_eval-${version}.json`), "utf8");
  const block = stringifyJson({ fingerprint, inputs: {}, run_id: "run-1", ...options.block });
  const whole = text.replace(/\}\s*$/, `, "eval_hive": ${block}}`);
  const nameOf = options.invalid === true ? invalidFileName : leafFileName;
  const directory = leafDirectory(outputPath, entry);
  const path = join(directory, nameOf(leaf as LeafId, fingerprintOf(leaf)));
  await mkdir(dirname(path), { recursive: true });
  await writeFile(path, options.edit?.(whole) ?? whole);
  return path;
}

/** A run whose every leaf is complete: one series of two checkpoints and a final model. */
export async function completeRun(directory: string) {
  const layout = new RunLayout(join(directory, "run"));
  const outputPath = join(directory, "out");
  const entries = [
    entryOf("tiny", "main", { tokens_trained: 2n ** 60n + 1n }),
    entryOf("tiny", "step_200", { step: 200, train_batch_size: 2n ** 54n + 1n }),
    entryOf("tiny", "step_100", { step: 100, tokens_trained: 9_007_199_254_740_993n }),
  ];
  const leaves = tasks.map((name) => leafOf(name));
  const suites = [
    nodeOf("group", "eh_all", [
      nodeOf(
        "tag",
        "eh_tagged",
        ["eh_choice", "eh_cloze"].map((name) => nodeOf("leaf", name)),
      ),
      nodeOf("group", "eh_all::inner", [nodeOf("leaf", "eh_rolling")]),
      nodeOf("leaf", "fin_eh_lengths"),
    ]),
    nodeOf("leaf", "german_eh_bpb"),
    nodeOf("group", "later", [nodeOf("leaf", "eh_choice"), nodeOf("leaf", "eh_generate")]),
  ];
  const plan = planOf(outputPath, entries, leaves, suites);
  await writeRun(layout, plan, entries);
  for (const entry of entries) {
    for (const task of tasks) {
      await writeLeaf(outputPath, entry, task, {
        version: entry.label === "main" ? "0.4.12" : "0.4.13",
      });
    }
  }
  return { layout, outputPath, entries, plan };
}
