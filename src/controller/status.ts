import { readdir, stat } from "node:fs/promises";
import { isMissing, OperatorError } from "../base/errors.ts";
import { readTextIfThere } from "../base/files.ts";
import { mapConcurrently } from "../base/map-concurrently.ts";
import { isRunning } from "../base/proc.ts";
import {
  addNewEvents,
  type EventTotals,
  eventCacheFile,
  noEvents,
  readTotals,
} from "../events/event-cache.ts";
import {
  type HeldBatch,
  type LeafTrouble,
  type RunFacts,
  type RunState,
  runStateOf,
  type UnitFacts,
} from "../events/run-state.ts";
import { openFsQueue } from "../queue/fs-queue.ts";
import { identifyThisProcess, parseOwnerRecord, relationTo } from "../queue/owner-record.ts";
import type { Queue } from "../queue/queue.ts";
import { readStoppedUnits, type StoppedUnit } from "../queue/stopped-units.ts";
import { type LeafStrikes, readStrikes, type StrikeKey, strikeKey } from "../queue/strikes.ts";
import { readCoverage } from "../run/coverage.ts";
import { type Fingerprint, type LeafId, type OwnerId, shardId, type UnitId } from "../run/ids.ts";
import type { RunLayout } from "../run/layout.ts";
import { type Manifest, readManifest } from "../run/manifest.ts";
import type { Plan, PlannedUnit } from "../run/plan.ts";
import { readPlan } from "../run/plan-file.ts";
import { readTogether } from "../run/read-run.ts";

export interface RunLook {
  readonly facts: RunFacts;
  readonly state: RunState;
  /** Events that are known to be missing, and lines that are none. */
  readonly record: { readonly missing: number; readonly damaged: number };
}

/** A view of a run that is looked at again and again: each look reads only the events that are new. */
export interface RunView {
  /** @throws {RunDirectoryError} when there is no run, or none that this version reads. */
  look(): Promise<RunLook>;
}

export interface RunViewOptions {
  /** Of the user: `$XDG_CACHE_HOME/eval-hive`. Without it, nothing is kept for the next command. */
  readonly cacheDirectory?: string;
}

/** Opens a view of a run directory. Nothing is ever written there, and no result file is opened. */
export function openRunView(layout: RunLayout, options: RunViewOptions = {}): RunView {
  let totals: EventTotals | undefined;
  const readPlanAgain = whenChanged(layout.plan, () => readPlan(layout));
  const readManifestAgain = whenChanged(layout.manifest, () => readManifest(layout));
  return {
    look: async () => {
      const { plan, manifest } = await readTogether(readPlanAgain, readManifestAgain);
      // An owner's record is there before its first event and after its last.
      const before = await readLiveOwners(layout);
      if (totals === undefined && options.cacheDirectory !== undefined) {
        const { cacheDirectory } = options;
        const cacheFile = eventCacheFile(cacheDirectory, layout.directory, plan.run_id);
        totals = await readTotals(layout.events, cacheFile);
      } else {
        totals ??= noEvents();
        await addNewEvents(layout.events, totals);
      }
      const live = new Set([...before, ...(await readLiveOwners(layout))]);
      const facts: RunFacts = {
        plan,
        units: await readUnits(layout, plan, manifest, live),
        writers: totals.writers.values(),
        gone: goneOwners(totals, live),
      };
      return { facts, state: runStateOf(facts), record: recordOf(totals) };
    },
  };
}

/** Reads a file that is replaced whole: again only when another one has taken its place. */
function whenChanged<T>(path: string, read: () => Promise<T>): () => Promise<T> {
  let known: { readonly mark: string; readonly value: T } | undefined;
  return async () => {
    const mark = await stat(path).then(
      ({ ino, mtimeMs, size }) => `${ino} ${mtimeMs} ${size}`,
      () => undefined,
    );
    if (mark === undefined) return await read();
    if (known?.mark !== mark) known = { mark, value: await read() };
    return known.value;
  };
}

/** The state of a run, once. @throws {RunDirectoryError} */
export async function readRunLook(layout: RunLayout, options?: RunViewOptions): Promise<RunLook> {
  return await openRunView(layout, options).look();
}

function recordOf({ positions }: EventTotals): RunLook["record"] {
  let missing = 0;
  let damaged = 0;
  for (const position of positions.values()) {
    damaged += position.damaged;
    for (const [from, to] of position.gaps) missing += to - from + 1;
  }
  return { missing, damaged };
}

/** Owners that are at work as far as can be seen from here. Looks only: nobody is judged dead, nothing is killed. */
async function readLiveOwners(layout: RunLayout): Promise<ReadonlySet<string>> {
  const names = (await namesIn(layout.heartbeats)).filter((name) => !/^\.|\.evict$/.test(name));
  if (names.length === 0) return new Set();
  const here = await identifyThisProcess("status");
  const live = await mapConcurrently(names, async (name) => {
    const text = await readTextIfThere(layout.heartbeat(name as OwnerId));
    if (text === undefined) return [];
    const record = parseOwnerRecord(text);
    // It may be half-written just now.
    if (record === undefined) return [name];
    const relation = relationTo(record, here);
    const ended =
      record.state === "ended" ||
      relation === "rebooted" ||
      (relation === "here" &&
        !(await isRunning({ pid: record.pid, startTime: record.start_time })));
    return ended ? [] : [name];
  });
  return new Set(live.flat());
}

function goneOwners({ writers }: EventTotals, live: ReadonlySet<string>): Set<string> {
  const gone = new Set<string>();
  for (const { agent } of writers.values()) {
    if (agent !== null && !live.has(agent.owner)) gone.add(agent.owner);
  }
  return gone;
}

async function readUnits(
  layout: RunLayout,
  plan: Plan,
  manifest: Manifest,
  live: ReadonlySet<string>,
): Promise<Map<UnitId, UnitFacts>> {
  const [stopped, struck, opened] = await Promise.all([
    readStoppedUnits(layout),
    namesIn(layout.allStrikes).then((names) => new Set(names)),
    live.size === 0 ? [] : namesIn(layout.shards(plan.epoch)),
  ]);
  // Only what a live owner holds is asked of the queue: names of leaf files say the rest.
  const queue = opened.length === 0 ? undefined : await openFsQueue({ layout, epoch: plan.epoch });
  const inQueue = new Set(opened);
  const units = await mapConcurrently(
    plan.units,
    async (unit) => {
      const { fingerprints } = plan.profiles[unit.profile] ?? { fingerprints: {} };
      const entry = manifest.get(unit.id);
      const coverage =
        entry === undefined
          ? { done: new Set<LeafId>(), invalid: new Set<LeafId>() }
          : await readCoverage(plan.output_path, entry, fingerprints);
      const strikes = struck.has(unit.id) ? await readStrikes(layout, unit.id) : new Map();
      const facts: UnitFacts = {
        coverage,
        dead: deadLeaves(strikes, fingerprints),
        held: queue === undefined ? [] : await heldBatches(queue, unit, inQueue, live),
        stopped: latestFailure(stopped.get(unit.id)),
      };
      return [unit.id, facts] as const;
    },
    32,
  );
  return new Map(units);
}

function latestFailure(stopped: StoppedUnit | undefined): UnitFacts["stopped"] {
  const failure = stopped?.failures.at(-1);
  return failure === undefined ? undefined : { reason: failure.reason, class: failure.class };
}

function deadLeaves(
  strikes: ReadonlyMap<StrikeKey, LeafStrikes>,
  fingerprints: Readonly<Record<LeafId, Fingerprint>>,
): Map<LeafId, LeafTrouble> {
  const dead = new Map<LeafId, LeafTrouble>();
  if (strikes.size === 0) return dead;
  for (const [id, fingerprint] of Object.entries<Fingerprint>(fingerprints)) {
    const leaf = id as LeafId;
    const found = strikes.get(strikeKey(leaf, fingerprint));
    if (found?.isDead !== true) continue;
    const { class: kind = null, message = null } = found.last ?? {};
    dead.set(leaf, { strikes: found.strikes, class: kind, message });
  }
  return dead;
}

async function heldBatches(
  queue: Queue,
  unit: PlannedUnit,
  opened: ReadonlySet<string>,
  live: ReadonlySet<string>,
): Promise<HeldBatch[]> {
  const held: HeldBatch[] = [];
  for (const generation of unit.generations) {
    const shard = shardId(unit.id, generation);
    if (!opened.has(shard)) continue;
    const owners = new Map<string, string>();
    try {
      for (const [batch, state] of (await queue.census(shard)).batches) {
        if (state.kind === "owned" && live.has(state.owner)) owners.set(batch, state.owner);
      }
      for (const { id, leaves } of owners.size === 0 ? [] : await queue.batches(shard)) {
        const owner = owners.get(id);
        if (owner !== undefined) held.push({ batch: id, owner, leaves });
      }
    } catch (error) {
      // A damaged shard is for those who need it; what is done is known without it.
      if (!(error instanceof OperatorError)) throw error;
    }
  }
  return held;
}

async function namesIn(directory: string): Promise<string[]> {
  try {
    return await readdir(directory);
  } catch (error) {
    if (isMissing(error)) return [];
    throw error;
  }
}
