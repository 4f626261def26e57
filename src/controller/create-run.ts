import { randomBytes } from "node:crypto";
import { readdir } from "node:fs/promises";
import { hostname } from "node:os";
import { dirname, resolve } from "node:path";
import { isMissing, UsageError } from "../base/errors.ts";
import { ensureDirectory, writeFileAtomic } from "../base/files.ts";
import { stringifyJson } from "../base/json.ts";
import { type LoadedConfig, loadConfig } from "../config/load.ts";
import { openJournal } from "../events/journal.ts";
import { beginEpoch, readEpoch } from "../queue/epoch.ts";
import { RunLayout } from "../run/layout.ts";
import { type Manifest, writeManifest } from "../run/manifest.ts";
import type { Plan, PlannedUnit } from "../run/plan.ts";
import { RunDirectoryError, readPlanIfThere, writePlan } from "../run/plan-file.ts";
import { taskMap } from "../run/task-map.ts";
import { type ResolvedUnits, resolveUnits } from "./checkpoints.ts";
import { findOpenWork } from "./open-work.ts";
import { planProfiles } from "./plan-profiles.ts";
import { planTasks } from "./plan-tasks.ts";
import { publishOpenWork } from "./publish.ts";
import { storeTravelling, type Travelling } from "./store.ts";

export interface CreateRunOptions {
  /** The YAML file. */
  readonly configFile: string;
  /** Of the run. */
  readonly directory: string;
  /** `update`: a changed config into an existing run. `force`: an existing run planned anew, in a new epoch. */
  readonly mode: "new" | "update" | "force";
  /** Plans and reports, writes nothing. */
  readonly dry: boolean;
  /** A checkpoint that is not there yet is an error. */
  readonly strict: boolean;
  readonly allowMissingPaths: boolean;
  /** Of `--python` or EVAL_HIVE_PYTHON. */
  readonly python: string | undefined;
  readonly env: NodeJS.ProcessEnv;
  /** Relative paths start here; the harness's children will run here. */
  readonly cwd: string;
  /** Of the checkout or release. */
  readonly installationRoot: string;
  readonly version: string;
  readonly travelling: Travelling;
  readonly say: (message: string) => void;
}

export interface CreateRunOutcome {
  readonly layout: RunLayout;
  readonly plan: Plan;
  readonly manifest: Manifest;
  /** Of this call: newly published work, and what had a result already. */
  readonly published: { readonly nLeaves: number; readonly nBatches: number };
  readonly nCovered: number;
}

/**
 * Plans a run and writes its directory. A plan that fails writes nothing; a call that dies on the way is completed by the
 * next one, since eh_plan.json, written last, is the switch.
 * @throws {OperatorError} for everything that would fail later on a GPU.
 */
export async function createRun(options: CreateRunOptions): Promise<CreateRunOutcome> {
  const layout = new RunLayout(resolve(options.cwd, options.directory));
  const previous = await findPrevious(layout, options.mode);
  const loaded = await loadConfig(options.configFile, options.cwd);
  const units = await resolveUnits(loaded, {
    baseDirectory: options.cwd,
    strict: options.strict,
    allowMissingPaths: options.allowMissingPaths,
  });
  const plan = await makePlan(options, loaded, units, previous);
  const live = options.mode === "update" ? previous : undefined;
  const work = await findOpenWork({ layout, plan, entries: units.manifest, previous: live });
  const nCovered = [...work.values()].reduce((sum, unit) => sum + unit.nCovered, 0);
  if (options.dry) {
    const nLeaves = [...work.values()].reduce((sum, { open }) => sum + open.length, 0);
    return {
      layout,
      plan,
      manifest: units.manifest,
      published: { nLeaves, nBatches: 0 },
      nCovered,
    };
  }

  await makeDirectories(layout);
  const stored = await withStore(layout, plan, options.travelling);
  const published = await publishOpenWork(layout, stored, work);
  const final = { ...stored, units: [...published.units] };
  await beginEpoch(layout, final.epoch);
  await writeDerived(layout, loaded, units.manifest, final);
  await writePlan(layout, final);
  await announce(layout, final, previous === undefined, published.nLeaves);
  return { layout, plan: final, manifest: units.manifest, published, nCovered };
}

/** The plan that is to be replaced. @throws {UsageError} when the mode and the directory don't go together. */
async function findPrevious(
  layout: RunLayout,
  mode: CreateRunOptions["mode"],
): Promise<Plan | undefined> {
  const previous = await readPlanIfThere(layout);
  if (previous !== undefined) {
    if (mode !== "new") return previous;
    throw new UsageError(
      "run.exists",
      `Cannot create a run in "${layout.directory}": one is there`,
      {
        hint: "Use --update to take a changed config into it, or --force to plan it anew.",
      },
    );
  }
  const names = await readdir(layout.directory).catch((error: unknown) => {
    if (isMissing(error)) return [];
    throw error;
  });
  // A create-run that died before its plan was written has left some of these.
  const ours = new Set(["queue", "events", "logs", "progress", "submissions"]);
  const foreign = names.find((name) => !ours.has(name) && !/^\.?eh_/.test(name));
  if (foreign !== undefined) {
    throw new RunDirectoryError(
      `Cannot create a run in "${layout.directory}": it holds "${foreign}" and no eh_plan.json`,
      { hint: "Choose a directory that is empty or not there yet." },
    );
  }
  return undefined;
}

async function makePlan(
  options: CreateRunOptions,
  { config, sha256, warnings, path }: LoadedConfig,
  units: ResolvedUnits,
  previous: Plan | undefined,
): Promise<Plan> {
  const profiles = planProfiles(config, units);
  const tasks = await planTasks({
    ...options,
    config,
    configDirectory: dirname(path),
    profiles: profiles.byName,
  });
  const now = new Date().toISOString();
  const epoch = await chooseEpoch(options, previous);
  const sameEpoch = previous?.epoch === epoch;
  return {
    schema_version: 1,
    run_id: previous?.run_id ?? randomBytes(8).toString("hex"),
    eval_hive_version: options.version,
    created_at: previous?.created_at ?? now,
    updated_at: now,
    epoch,
    config_file: path,
    config_sha256: sha256,
    job_name: config.job_name,
    working_directory: options.cwd,
    output_path: resolve(options.cwd, config.output_path),
    eval_suite_path: tasks.includePath,
    harness: {
      argv: [...tasks.argv],
      versions: tasks.versions,
      store: previous?.harness.store ?? "",
    },
    in_config_order: config.task_batch_size === null,
    profiles: tasks.profiles,
    suites: tasks.suites,
    leaves: tasks.leaves,
    units: [...units.manifest.keys()].map((id): PlannedUnit => {
      const before = sameEpoch ? previous.units.find((unit) => unit.id === id) : undefined;
      return {
        id,
        profile: profiles.ofUnit.get(id) ?? "default",
        generations: before?.generations ?? [],
        n_covered: 0,
      };
    }),
    not_found: [...units.notFound],
    excluded: [...tasks.excluded],
    warnings: [
      ...[...warnings, ...units.warnings].map(({ message }) => message),
      ...tasks.warnings,
    ],
  };
}

async function chooseEpoch(options: CreateRunOptions, previous: Plan | undefined): Promise<number> {
  if (previous !== undefined && options.mode === "update") return previous.epoch;
  const layout = new RunLayout(resolve(options.cwd, options.directory));
  return ((await readEpoch(layout)) ?? 0) + 1;
}

async function makeDirectories(layout: RunLayout): Promise<void> {
  for (const directory of [layout.queue, layout.events, layout.logs, layout.progress]) {
    await ensureDirectory(directory);
  }
}

async function withStore(layout: RunLayout, plan: Plan, from: Travelling): Promise<Plan> {
  const store = await storeTravelling(layout.directory, from);
  return { ...plan, harness: { ...plan.harness, store } };
}

/** Files that people and other tools read. */
async function writeDerived(
  layout: RunLayout,
  loaded: LoadedConfig,
  manifest: Manifest,
  plan: Plan,
): Promise<void> {
  await writeFileAtomic(layout.config, loaded.text);
  await writeManifest(layout, manifest);
  await writeFileAtomic(layout.taskMap, `${stringifyJson(taskMap(plan.suites), 2)}\n`);
}

async function announce(
  layout: RunLayout,
  plan: Plan,
  isNew: boolean,
  leaves: number,
): Promise<void> {
  await using journal = await openJournal({
    layout,
    runId: plan.run_id,
    node: hostname(),
    role: "create-run",
  });
  await journal.publish(
    isNew ? "run.created" : "run.updated",
    {},
    {
      eval_hive_version: plan.eval_hive_version,
      units: plan.units.length,
      leaves,
    },
  );
}
