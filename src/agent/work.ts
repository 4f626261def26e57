import { join } from "node:path";
import { EnvironmentError } from "../base/errors.ts";
import type { EventSink } from "../events/event.ts";
import { openFsQueue } from "../queue/fs-queue.ts";
import type { Heartbeat } from "../queue/heartbeat.ts";
import type { Queue } from "../queue/queue.ts";
import { readStoppedUnits } from "../queue/stopped-units.ts";
import { indexLeafFiles, type LeafFileIndex } from "../run/coverage.ts";
import type { UnitId } from "../run/ids.ts";
import type { RunLayout } from "../run/layout.ts";
import type { Manifest } from "../run/manifest.ts";
import { type Plan, serverCommandHash } from "../run/plan.ts";
import { readRun } from "../run/read-run.ts";
import { logNames } from "./agent-logs.ts";
import type { BalancerClient } from "./balancer-client.ts";
import type { BatchRequest } from "./batch-run.ts";
import { childEnvironment, evaluationVariables } from "./environment.ts";
import type { JobContext, JobProcesses, Serving } from "./job.ts";
import { openPlanWatch } from "./plan-watch.ts";
import type { Reaper } from "./reaper.ts";
import {
  journalsRoot,
  openRequestJournals,
  type RequestJournals,
  sweepRoot,
} from "./request-journals.ts";
import type { Shutdown } from "./shutdown.ts";
import { openLeaves, readOpenLeaves, readUnitState, type WorkUnit, workUnit } from "./unit.ts";
import { runUnit, type UnitOutcome } from "./unit-run.ts";
import { serverSpecs } from "./unit-servers.ts";

/** lm_eval's own patience with the balancer, which has its own with the servers. */
const behindBalancer = { timeoutS: 86_400, retries: 8 };

export interface WorkDeps {
  readonly context: JobContext;
  readonly processes: JobProcesses;
  readonly events: EventSink;
  readonly shutdown: Shutdown;
  readonly reaper: Reaper;
  readonly heartbeat: Pick<Heartbeat, "fallSilent">;
}

/** Units that this agent has given up; another life may try them again. */
type GivenUp = Set<UnitId>;

/**
 * Takes unit after unit, in the plan's order, until none has work that is free. A plan that is replaced meanwhile is read
 * again. @returns true when every planned leaf has a valid result.
 */
export async function workThroughPlan(deps: WorkDeps): Promise<boolean> {
  const { context, shutdown, events } = deps;
  const subject = { job: context.job };
  const givenUp: GivenUp = new Set();
  for (;;) {
    using watch = await openPlanWatch(context.layout, context.clock);
    const note = () => void events.publish("agent.plan-changed", subject, {}).catch(() => {});
    watch.changed.addEventListener("abort", note, { once: true });
    const { plan, manifest } = await readRun(context.layout);
    await using queue = await openFsQueue({ layout: context.layout, epoch: plan.epoch });
    using _ = silentIfHeld(queue, deps.heartbeat);
    const units = listUnits(context.layout, plan, manifest);
    let worked = false;
    for (const unit of units) {
      if (shutdown.draining.aborted || watch.changed.aborted) break;
      if (!(await isWorkable(deps, queue, unit, givenUp))) continue;
      worked = true;
      const outcome = await workOn(deps, queue, unit, watch.changed);
      if (outcome.kind === "stopped") givenUp.add(unit.planned.id);
    }
    if (shutdown.draining.aborted) return false;
    if (!worked && !watch.changed.aborted) {
      const isDone = await isComplete(units);
      await sweepAllJournals(deps, units, isDone);
      return isDone;
    }
  }
}

/** A batch that the file system has not taken back is still ours: others have to find us dead. */
function silentIfHeld(queue: Queue, heartbeat: WorkDeps["heartbeat"]): Disposable {
  return {
    [Symbol.dispose]: () => {
      if (queue.held > 0) heartbeat.fallSilent();
    },
  };
}

function listUnits(layout: RunLayout, plan: Plan, manifest: Manifest): WorkUnit[] {
  const indexes = new Map<string, LeafFileIndex>();
  return plan.units.map((planned) => {
    const entry = manifest.get(planned.id);
    if (entry === undefined) throw new TypeError(`Unit "${planned.id}" is not in the manifest`);
    const { fingerprints } = plan.profiles[planned.profile] ?? { fingerprints: {} };
    const index = indexes.get(planned.profile) ?? indexLeafFiles(fingerprints);
    indexes.set(planned.profile, index);
    return workUnit(layout, plan, planned, entry, index);
  });
}

/** True when a batch of the unit is free, or becomes so because its owner is dead. */
async function isWorkable(
  { context, reaper }: WorkDeps,
  queue: Queue,
  unit: WorkUnit,
  givenUp: GivenUp,
): Promise<boolean> {
  const { id } = unit.planned;
  if (givenUp.has(id)) return false;
  if (unit.shards.length === 0) return false;
  if ((await readStoppedUnits(context.layout)).get(id)?.waitsForPerson === true) return false;
  for (const shard of unit.shards) {
    const { batches, folded } = await queue.census(shard);
    const states = [...batches.values()];
    if (states.some(({ kind }) => kind === "ready")) return true;
    if (!folded && states.every(({ kind }) => kind === "done")) await queue.fold(shard);
  }
  return await reaper.reap(queue, unit);
}

async function workOn(
  deps: WorkDeps,
  queue: Queue,
  unit: WorkUnit,
  planChanged: AbortSignal,
): Promise<UnitOutcome> {
  const { context, processes, events, shutdown, reaper } = deps;
  const { profile, plan, planned } = unit;
  const isServerless = profile.server_command === null;
  const serving = isServerless ? undefined : await processes.serving();
  if (isServerless) await processes.withoutServers();
  const harness = await processes.harnessFor(plan, planned.profile);
  // A model that lm_eval loads itself is loaded once, so one batch at a time.
  const slots = isServerless || plan.in_config_order ? 1 : profile.slots;
  return await runUnit({
    unit,
    owner: context.owner,
    job: context.job,
    events,
    clock: context.clock,
    queue,
    harness,
    slots,
    lanes: isServerless ? slots : 2 * slots,
    request: await requestMaker(deps, unit, serving),
    settle: async (account, leaf) => await serving?.balancer.settle(account, leaf),
    journals: await journalsOf(deps, unit, serving?.balancer),
    disturbedSince: async (at) => (await serving?.servers.disturbedSince(at)) === true,
    begin: (onFailed) => {
      const specs = serverSpecs(unit, logNames(context.layout, plan.job_name, context.job));
      serving?.servers.assign(planned.id, specs, profile.request_timeout_s, (failed) => {
        const tail = failed.logTail.at(-1);
        const reason =
          tail === undefined ? failed.reason : `${failed.reason}; its last line: ${tail}`;
        onFailed({ class: failed.class, reason });
      });
    },
    end: async () => {
      const left = serving?.servers.leave();
      // When all is to end at once, nobody waits for figures.
      if (!shutdown.aborting.aborted) await left;
    },
    reap: () => reaper.reap(queue, unit),
    isGone: reaper.isGone,
    draining: AbortSignal.any([shutdown.draining, planChanged]),
    aborting: shutdown.aborting,
  });
}

async function journalsOf(
  deps: WorkDeps,
  unit: WorkUnit,
  balancer: BalancerClient | undefined,
): Promise<RequestJournals | undefined> {
  const { journal } = unit.profile;
  if (journal === null || balancer === undefined) return undefined;
  const directory = join(await findJournals(deps, unit), unit.planned.id);
  const { owner } = deps.context;
  return openRequestJournals({ directory, owner, limitBytes: journal.limit_bytes, balancer });
}

/** As `journalsRoot`; where the config's place can't be made out, the run's, which is told. */
async function findJournals({ context, shutdown }: WorkDeps, unit: WorkUnit): Promise<string> {
  const { env, owner, layout, log } = context;
  try {
    return await journalsRoot(unit, childEnvironment(env, owner), shutdown.aborting);
  } catch (error) {
    if (!(error instanceof EnvironmentError)) throw error;
    log.warn({ journals: layout.journals }, `${error.message}: journals are kept in the run`);
    return layout.journals;
  }
}

/**
 * Whoever was killed after its last leaf has left that one's journal. Those of units that the plan has no more stay until all
 * is done: another plan may have them again.
 */
async function sweepAllJournals(
  deps: WorkDeps,
  units: readonly WorkUnit[],
  isDone: boolean,
): Promise<void> {
  const places = new Map<string, WorkUnit[]>([[deps.context.layout.journals, []]]);
  for (const alike of Map.groupBy(units, ({ profile }) => profile.journal?.directory).values()) {
    const [first] = alike;
    if (first === undefined || first.profile.journal === null) continue;
    const root = await findJournals(deps, first);
    places.set(root, [...(places.get(root) ?? []), ...alike]);
  }
  const planned = new Set<string>(units.map(({ planned: { id } }) => id));
  for (const [root, alike] of places) {
    const byId = new Map<string, WorkUnit>(alike.map((unit) => [unit.planned.id, unit]));
    await sweepRoot(root, async (id) => {
      const unit = byId.get(id);
      if (unit !== undefined) return await readOpenLeaves(unit);
      // Of one whose journals lie elsewhere now, or which keeps none, nobody will read them.
      return isDone || planned.has(id) ? [] : undefined;
    });
  }
}

/** What a run request of this unit says, but for its leaves. */
async function requestMaker(
  { context, processes, shutdown }: WorkDeps,
  unit: WorkUnit,
  serving: Serving | undefined,
): Promise<(attempt: number) => BatchRequest> {
  const { profile, plan, planned, directory } = unit;
  const { owner, job, env } = context;
  const balancer = serving?.balancer;
  const base = childEnvironment(env, owner);
  const variables = await evaluationVariables(base, unit, {
    port: balancer?.port,
    signal: shutdown.aborting,
  });
  const logs = logNames(context.layout, plan.job_name, job);
  const server_command_sha256 = serverCommandHash(profile);
  return (attempt) => {
    const id = processes.newRunId();
    return {
      id,
      evaluation: { model_args: profile.model_args, lm_eval_args: profile.lm_eval_args },
      env: variables,
      base_url_prefix: balancer?.prefix(id) ?? null,
      request_timeout_s:
        balancer === undefined ? profile.request_timeout_s : behindBalancer.timeoutS,
      request_retries:
        balancer === undefined
          ? profile.request_retries
          : Math.max(profile.request_retries, behindBalancer.retries),
      phase_timeout_s: profile.phase_timeout_s,
      engine: profile.engine,
      output_dir: directory,
      owner,
      record: { run_id: plan.run_id, job, node: context.node, attempt, server_command_sha256 },
      log_file: logs.harness(unit),
      cwd: plan.working_directory,
      resident: balancer === undefined ? planned.id : null,
    };
  };
}

async function isComplete(units: readonly WorkUnit[]): Promise<boolean> {
  for (const unit of units) {
    const state = await readUnitState(unit);
    const unsettled = openLeaves(unit, state).length;
    if (unsettled + state.dead.size + state.coverage.invalid.size > 0) return false;
  }
  return true;
}
