import { homedir } from "node:os";
import { join, resolve } from "node:path";
import type { Config } from "../config/schema.ts";
import { startHarness } from "../lmeval/harness.ts";
import type { HarnessVersions, Planned } from "../lmeval/protocol.ts";
import { decidePythonCommand } from "../lmeval/python-command.ts";
import type { Leaf, SuiteNode } from "../lmeval/task-tree.ts";
import { expandEnvVars, withoutHidden } from "../run/environment.ts";
import type { Fingerprint, LeafId } from "../run/ids.ts";
import type { Profile } from "../run/plan.ts";
import { excludeTasks } from "./exclude-tasks.ts";
import type { ProfileSettings } from "./plan-profiles.ts";
import { RefusedPlanError, refuseLeaves, refuseUnknownTasks } from "./refusals.ts";

export interface PlanTasksOptions {
  readonly config: Config;
  readonly configDirectory: string;
  /** By profile name. */
  readonly profiles: Readonly<Record<string, ProfileSettings>>;
  readonly python: string | undefined;
  readonly env: NodeJS.ProcessEnv;
  readonly cwd: string;
  readonly installationRoot: string;
  readonly travelling: { readonly harnessDirectory: string };
  readonly say: (message: string) => void;
  /** Aborting ends the planning at once, with the signal's reason. */
  readonly signal: AbortSignal;
}

export interface PlannedTasks {
  readonly argv: readonly [string, ...string[]];
  readonly versions: HarnessVersions;
  /** Absolute. */
  readonly includePath: string | null;
  readonly suites: SuiteNode[];
  readonly leaves: Record<LeafId, Leaf>;
  readonly profiles: Record<string, Profile>;
  /** Left out by `eval.exclude_tasks`: neither in `suites` nor in `leaves`. */
  readonly excluded: LeafId[];
  readonly warnings: string[];
}

/**
 * Asks lm_eval for the task tree of the config's suites, with the fingerprint of each leaf under each profile.
 * @throws {RefusedPlanError} for work that can't succeed. @throws {EnvironmentError} without a Python that has lm_eval.
 */
export async function planTasks(options: PlanTasksOptions): Promise<PlannedTasks> {
  const { config, profiles, cwd } = options;
  const argv = decidePythonCommand({
    explicit: options.python,
    harnessCommand: config.harness_command,
    pixiManifest: config.pixi_manifest ?? null,
    pixiEnv: config.pixi_env ?? null,
    activationCommand: config.env_activation_command ?? null,
    configDirectory: options.configDirectory,
    cwd,
    checkout: options.installationRoot,
  });
  const includePath = config.eval.eval_suite_path;
  const include = includePath === null ? null : resolve(cwd, includePath);
  options.say("reading the tasks from lm_eval");
  const { planned, versions } = await askHarness(options, argv, include);

  const kept = excludeTasks(planned, config.eval.exclude_tasks);
  const { suites, leaves, excluded } = kept;
  const refusals = [
    ...refuseUnknownTasks(planned.unknown),
    ...kept.refusals,
    ...Object.values(profiles).flatMap((profile) => refuseLeaves(leaves, profile)),
  ];
  if (refusals.length > 0) throw new RefusedPlanError(distinct(refusals));
  return {
    argv,
    versions,
    includePath: include,
    suites,
    leaves: Object.fromEntries(leaves.map((leaf) => [leaf.id, leaf])) as Record<LeafId, Leaf>,
    profiles: Object.fromEntries(
      Object.entries(profiles).map(([name, settings]) => [
        name,
        { ...settings, ...evaluationOf(planned, name, leaves) },
      ]),
    ),
    excluded,
    warnings: [...planned.warnings, ...kept.warnings],
  };
}

async function askHarness(
  options: PlanTasksOptions,
  argv: readonly [string, ...string[]],
  includePath: string | null,
): Promise<{ planned: Planned; versions: HarnessVersions }> {
  const { config, env } = options;
  const base = withoutHidden(env);
  await using harness = await startHarness({
    argv,
    harnessDirectory: options.travelling.harnessDirectory,
    env: { ...base, ...(await expandEnvVars(config.env_vars ?? {}, base, options)) },
    cwd: options.cwd,
    planOnly: true,
    signal: options.signal,
  });
  const planned = await harness.plan({
    suites: config.eval.suites_and_tasks,
    include_path: includePath,
    cache_dir: cacheDirectory(env),
    evaluations: Object.fromEntries(
      Object.entries(options.profiles).map(([name, { model_args, lm_eval_args }]) => [
        name,
        { model_args, lm_eval_args },
      ]),
    ),
  });
  return { planned, versions: harness.hello.versions };
}

/** Where indexes are kept between calls: the user's, never the run's. */
function cacheDirectory(env: NodeJS.ProcessEnv): string {
  const base = env.XDG_CACHE_HOME || join(env.HOME ?? homedir(), ".cache");
  return join(base, "eval-hive");
}

function evaluationOf(
  { evaluations }: Planned,
  profile: string,
  leaves: readonly Leaf[],
): Pick<Profile, "inputs" | "fingerprints"> {
  const { inputs = {}, fingerprints = {} } = evaluations[profile] ?? {};
  return {
    inputs,
    fingerprints: Object.fromEntries(leaves.map(({ id }) => [id, fingerprints[id]])) as Record<
      LeafId,
      Fingerprint
    >,
  };
}

/** Several profiles may refuse the same. */
function distinct<T extends { readonly message: string }>(refusals: readonly T[]): T[] {
  return [...new Map(refusals.map((refusal) => [refusal.message, refusal])).values()];
}
