import { randomBytes } from "node:crypto";
import { readdir, rm } from "node:fs/promises";
import { hostname } from "node:os";
import { dirname, join, resolve } from "node:path";
import { isMissing, messageOf, UsageError } from "../base/errors.ts";
import { ensureDirectory, writeFileAtomic } from "../base/files.ts";
import { canonicalJson, type Json, stringifyJson } from "../base/json.ts";
import { type LoadedConfig, loadConfig } from "../config/load.ts";
import { openJournal } from "../events/journal.ts";
import { beginEpoch, readEpoch } from "../queue/epoch.ts";
import { identifyThisProcess } from "../queue/owner-record.ts";
import { holdPlanning } from "../queue/planning-hold.ts";
import type { UnitId } from "../run/ids.ts";
import { RunLayout } from "../run/layout.ts";
import { type Manifest, readManifest, writeManifest } from "../run/manifest.ts";
import type { Plan, PlannedUnit } from "../run/plan.ts";
import { RunDirectoryError, readPlanIfThere, writePlan } from "../run/plan-file.ts";
import { taskMap } from "../run/task-map.ts";
import { type ResolvedUnits, resolveUnits } from "./checkpoints.ts";
import { warnOfNotDoneYet } from "./not-done-yet.ts";
import { findOpenWork, type OpenWork } from "./open-work.ts";
import { assertCanHoldResults, findDirectory } from "./output-path.ts";
import { type PlannedProfiles, planProfiles } from "./plan-profiles.ts";
import { type PlannedTasks, planTasks } from "./plan-tasks.ts";
import { writeCompletedUnits } from "./progress-files.ts";
import { publishOpenWork } from "./publish.ts";
import { storeTravelling, type Travelling } from "./store.ts";
import { checkSuitePath } from "./suite-path.ts";

/** Thrown when there is a run already, and neither update nor force was asked for. */
export class RunExistsError extends UsageError {
  constructor(directory: string) {
    super("run.exists", `Cannot create a run in "${directory}": one is there`, {
      hint: "Use --update to take a changed config into it, or --force to plan it anew.",
    });
  }
}

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
  /** Aborting before anything is written leaves everything as it was; later it comes too late. */
  readonly signal: AbortSignal;
}

export interface CreateRunOutcome {
  readonly layout: RunLayout;
  readonly plan: Plan;
  readonly manifest: Manifest;
  /** False: the plan that is there says the same. */
  readonly isNews: boolean;
  /** Of this call: newly published work. */
  readonly published: { readonly nLeaves: number; readonly nBatches: number };
  /** What was published before and is not done. */
  readonly nWaiting: number;
  /** What has a valid result already. */
  readonly nCovered: number;
}

/** What a config asks for, before it is known what of it is there already. */
interface Wish {
  readonly loaded: LoadedConfig;
  readonly units: ResolvedUnits;
  readonly profiles: PlannedProfiles;
  readonly tasks: PlannedTasks;
  readonly notDoneYet: readonly string[];
}

/**
 * Plans a run and writes its directory. A plan that fails writes nothing; a call that dies on the way is completed by the
 * next one, since eh_plan.json, written last, is the switch. Of several calls for one directory one writes at a time.
 * @throws {OperatorError} for everything that would fail later on a GPU. @throws the signal's reason.
 */
export async function createRun(options: CreateRunOptions): Promise<CreateRunOutcome> {
  const layout = new RunLayout(resolve(options.cwd, options.directory));
  const before = await findPrevious(layout, options.mode);
  const wish = await readWish(options);
  options.signal.throwIfAborted();
  if (options.dry) return await rehearse(layout, options, wish, before);

  const identity = await identifyThisProcess(
    `plan-p${process.pid}-${randomBytes(4).toString("hex")}`,
  );
  await using hold = await holdPlanning(layout, { ...options, identity });
  // Whoever was first may have changed it, or made it.
  const previous = await findPrevious(layout, options.mode);
  const { plan, work } = await drawPlan(layout, options, wish, previous);
  await makeDirectories(layout);
  const stored = await withStore(layout, plan, options.travelling);
  const published = await publishOpenWork(layout, stored, work);
  const final = { ...stored, units: [...published.units] };
  await beginEpoch(layout, final.epoch);
  await writeDerived(layout, wish, final, previous);
  await writeCompletedUnits(layout, completedUnits(plan, work));
  hold.fenced.throwIfAborted();
  const isNews = previous === undefined || !saysTheSame(previous, final);
  if (isNews) {
    await writePlan(layout, final);
    await announce(layout, final, previous === undefined, published.nLeaves).catch((error) => {
      // The plan counts: the run is there.
      options.say(`warning: ${messageOf(error)}`);
    });
  }
  const { manifest } = wish.units;
  await writeManifest(layout, manifest);
  await sweepTemporaries(layout);
  return { layout, plan: final, manifest, isNews, published, ...countSettled(work) };
}

async function readWish(options: CreateRunOptions): Promise<Wish> {
  const loaded = await loadConfig(options.configFile, options.cwd);
  const { config, path } = loaded;
  const outputPath = resolve(options.cwd, config.output_path);
  await (options.dry ? findDirectory(outputPath) : assertCanHoldResults(outputPath));
  const notDoneYet = warnOfNotDoneYet(loaded);
  const units = await resolveUnits(loaded, {
    baseDirectory: options.cwd,
    strict: options.strict,
    allowMissingPaths: options.allowMissingPaths,
    mistakes: await checkSuitePath(config, options.cwd),
  });
  const profiles = planProfiles(config, units);
  const tasks = await planTasks({
    ...options,
    config,
    configDirectory: dirname(path),
    profiles: profiles.byName,
  });
  return { loaded, units, profiles, tasks, notDoneYet };
}

/** What a call would do, without doing it. */
async function rehearse(
  layout: RunLayout,
  options: CreateRunOptions,
  wish: Wish,
  previous: Plan | undefined,
): Promise<CreateRunOutcome> {
  const { plan, work } = await drawPlan(layout, options, wish, previous);
  const nLeaves = [...work.values()].reduce((sum, { open }) => sum + open.length, 0);
  return {
    layout,
    plan,
    manifest: wish.units.manifest,
    isNews: true,
    published: { nLeaves, nBatches: 0 },
    ...countSettled(work),
  };
}

/** The plan, and the work that it makes; not published yet. */
async function drawPlan(
  layout: RunLayout,
  options: CreateRunOptions,
  wish: Wish,
  previous: Plan | undefined,
): Promise<{ plan: Plan; work: Map<UnitId, OpenWork> }> {
  const epoch =
    previous !== undefined && options.mode === "update"
      ? previous.epoch
      : ((await readEpoch(layout)) ?? 0) + 1;
  const plan = planOf(options, wish, epoch, previous);
  const live = options.mode === "update" ? previous : undefined;
  const entries = wish.units.manifest;
  return { plan, work: await findOpenWork({ layout, plan, entries, previous: live }) };
}

function countSettled(
  work: ReadonlyMap<UnitId, OpenWork>,
): Pick<CreateRunOutcome, "nWaiting" | "nCovered"> {
  let [nWaiting, nCovered] = [0, 0];
  for (const unit of work.values()) {
    nWaiting += unit.nWaiting;
    nCovered += unit.nCovered;
  }
  return { nWaiting, nCovered };
}

function completedUnits(plan: Plan, work: ReadonlyMap<UnitId, OpenWork>): UnitId[] {
  const nLeaves = new Map(
    Object.entries(plan.profiles).map(([name, { fingerprints }]) => [
      name,
      Object.keys(fingerprints).length,
    ]),
  );
  const isCompleted = ({ id, profile }: PlannedUnit): boolean =>
    work.get(id)?.nCovered === nLeaves.get(profile);
  return plan.units.filter(isCompleted).map(({ id }) => id);
}

/** True when an agent that reads the new plan would do just what it does. Pure. */
function saysTheSame(before: Plan, after: Plan): boolean {
  const essence = (plan: Plan): string => {
    const units = plan.units.map((unit) => ({ ...unit, n_covered: 0 }));
    // As it is read back: the text holds more digits than a number does.
    const stored: unknown = JSON.parse(stringifyJson({ ...plan, updated_at: "", units }));
    return canonicalJson(stored as Json);
  };
  return essence(before) === essence(after);
}

/** The plan that is to be replaced. @throws {UsageError} when the mode and the directory don't go together. */
async function findPrevious(
  layout: RunLayout,
  mode: CreateRunOptions["mode"],
): Promise<Plan | undefined> {
  const previous = await readPlanIfThere(layout);
  if (previous !== undefined) {
    if (mode !== "new") return previous;
    throw new RunExistsError(layout.directory);
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

function planOf(
  options: CreateRunOptions,
  { loaded, units, profiles, tasks, notDoneYet }: Wish,
  epoch: number,
  previous: Plan | undefined,
): Plan {
  const { config, sha256, warnings, path } = loaded;
  const now = new Date().toISOString();
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
      ...notDoneYet,
      ...tasks.warnings,
    ],
  };
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

/**
 * Files that people and other tools read. Until the new plan is there the old one counts, so the manifest keeps the units
 * of both.
 */
async function writeDerived(
  layout: RunLayout,
  { loaded, units }: Wish,
  plan: Plan,
  previous: Plan | undefined,
): Promise<void> {
  const before =
    previous === undefined ? undefined : await readManifest(layout).catch(() => undefined);
  const planned = new Set(previous?.units.map(({ id }) => id));
  const leaving = [...(before ?? [])].filter(([id]) => planned.has(id) && !units.manifest.has(id));
  await writeManifest(layout, new Map([...units.manifest, ...leaving]));
  await writeFileAtomic(layout.config, loaded.text);
  await writeFileAtomic(layout.taskMap, `${stringifyJson(taskMap(plan.suites), 2)}\n`);
}

/** Those of calls that died: nobody else writes here. */
async function sweepTemporaries({ directory, progress }: RunLayout): Promise<void> {
  for (const [place, pattern] of [
    [directory, /^\.eh_.*\.tmp$/],
    [progress, /^\.jobs_.*\.tmp$/],
  ] as const) {
    for (const name of await readdir(place)) {
      if (pattern.test(name)) await rm(join(place, name), { force: true });
    }
  }
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
