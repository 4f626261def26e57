import type { UnitCoverage } from "../run/coverage.ts";
import type { LeafId, UnitId } from "../run/ids.ts";
import type { Plan, PlannedUnit } from "../run/plan.ts";
import {
  type AgentActivity,
  type BatchActivity,
  requestRate,
  type ServerActivity,
  type ServerLoad,
  type ServerWarning,
  type WriterState,
} from "./writer-state.ts";

/** What the strike records of a leaf say. */
export interface LeafTrouble {
  readonly strikes: number;
  /** Of the latest failure; null when every end was excused. */
  readonly class: string | null;
  readonly message: string | null;
}

/** A batch that an owner holds. */
export interface HeldBatch {
  readonly batch: string;
  readonly owner: string;
  readonly leaves: readonly LeafId[];
}

/** What files say of one unit. */
export interface UnitFacts {
  readonly coverage: UnitCoverage;
  readonly dead: ReadonlyMap<LeafId, LeafTrouble>;
  /** Held by owners that are not known to be gone. */
  readonly held: readonly HeldBatch[];
  /** The latest reason why the unit was given up, if it was. */
  readonly stopped: { readonly reason: string; readonly class: string } | undefined;
}

/** All that the state of a run follows from. Files say what is, events why and when. */
export interface RunFacts {
  readonly plan: Plan;
  readonly units: ReadonlyMap<UnitId, UnitFacts>;
  readonly writers: Iterable<WriterState>;
  /** Owners that are known to have ended without a word. */
  readonly gone: ReadonlySet<string>;
}

/** `total = done + invalid + dead + open`. */
export interface LeafCounts {
  total: number;
  done: number;
  invalid: number;
  dead: number;
  open: number;
  /** Of the open ones: batches that are being evaluated, one leaf each. */
  running: number;
}

/**
 * - `completed`: every leaf has a valid result
 * - `running`: an agent holds some of its work
 * - `failed`: nobody will go on by itself: given up, or all that is left is dead or invalid
 * - `pending`: begun, and nobody is at it now
 * - `not_started`: no leaf is settled, none was ever begun
 */
export const unitStates = ["completed", "running", "pending", "failed", "not_started"] as const;
export type UnitStateName = (typeof unitStates)[number];

export interface UnitState {
  unit: UnitId;
  profile: string;
  state: UnitStateName;
  leaves: LeafCounts;
  /** Why it was given up. */
  stopped: { reason: string; class: string } | null;
  dead: ({ leaf: LeafId } & LeafTrouble)[];
  invalid: { leaf: LeafId; reason: string | null }[];
  requests: number;
  /** Of these, answered from journals of evaluations that were cut off. */
  replayed: number;
  prompt_tokens: number | null;
  completion_tokens: number | null;
  /** What its requests came to at each server of each agent, by agents' starts; `engine` of those that serve now. */
  servers: ServerLoad[];
  /** Of events about it; times of several machines, for display. */
  first_at: string | null;
  last_at: string | null;
}

export interface AgentState extends Omit<AgentActivity, "state"> {
  /** `gone`: ended without a word. */
  state: AgentActivity["state"] | "gone";
  last_at: string;
  /** What is evaluated now. */
  at_hand: BatchActivity[];
  servers: ServerActivity[];
  requests_per_s: number | null;
}

export interface RunState {
  run_id: string;
  /** In the order of the plan. */
  units: UnitState[];
  unit_states: Record<UnitStateName, number>;
  leaves: LeafCounts;
  /** Those that have ended too, by start. */
  agents: AgentState[];
  requests: number;
  replayed: number;
  prompt_tokens: number | null;
  completion_tokens: number | null;
  requests_per_s: number | null;
  /** Seconds until no leaf is open, if all goes on like this; null when nobody is at it or too little is known. */
  eta_s: number | null;
  first_at: string | null;
  last_at: string | null;
  not_found: Plan["not_found"];
  warnings: string[];
  /** What was found odd about servers, those that have ended included, by time. */
  server_warnings: ServerWarning[];
}

/** The state of a run: the one view that status, the live display and collect share. Pure; the order of writers is of no account. */
export function runStateOf(facts: RunFacts): RunState {
  const { plan } = facts;
  const writers = [...facts.writers].sort(
    (a, b) => compare(a.first_at, b.first_at) || compare(a.writer, b.writer),
  );
  const activities = activitiesByUnit(writers, facts.gone);
  const units = plan.units.map((unit) => unitStateOf(plan, unit, facts, activities.get(unit.id)));
  const agents = writers.flatMap((writer) => agentStateOf(writer, facts.gone));
  const leaves = addCounts(units.map((unit) => unit.leaves));
  const live = agents.filter(isLive);
  return {
    run_id: plan.run_id,
    units,
    unit_states: countStates(units),
    leaves,
    agents,
    requests: units.reduce((sum, { requests }) => sum + requests, 0),
    replayed: units.reduce((sum, { replayed }) => sum + replayed, 0),
    prompt_tokens: addKnown(units.map((unit) => unit.prompt_tokens)),
    completion_tokens: addKnown(units.map((unit) => unit.completion_tokens)),
    requests_per_s: addKnown(live.map((agent) => agent.requests_per_s)),
    eta_s: estimateRest(leaves.open, live, writers),
    first_at: writers[0]?.first_at ?? null,
    last_at: latest(writers.map((writer) => writer.last_at)),
    not_found: plan.not_found,
    warnings: plan.warnings,
    server_warnings: warningsOf(writers),
  };
}

/** What was found odd about servers, by time. */
export function warningsOf(writers: Iterable<WriterState>): ServerWarning[] {
  return [...writers].flatMap(({ warnings }) => warnings).sort((a, b) => compare(a.at, b.at));
}

export function isLive({ state }: AgentState): boolean {
  return state === "running" || state === "draining";
}

export type LeafState = "done" | "invalid" | "dead" | "running" | "open";

/** Where each planned leaf of a unit stands, in the order of the plan: exactly one state per leaf. */
export function leafStates(
  plan: Plan,
  unit: PlannedUnit,
  facts: UnitFacts | undefined,
): Map<LeafId, LeafState> {
  const atHand = new Set(facts?.held.flatMap((held) => held.leaves.find(openIn(facts)) ?? []));
  const leaves = Object.keys(plan.profiles[unit.profile]?.fingerprints ?? {}) as LeafId[];
  return new Map(leaves.map((leaf) => [leaf, stateOf(leaf)]));

  function stateOf(leaf: LeafId): LeafState {
    if (facts === undefined) return "open";
    if (facts.coverage.done.has(leaf)) return "done";
    if (facts.coverage.invalid.has(leaf)) return "invalid";
    if (facts.dead.has(leaf)) return "dead";
    return atHand.has(leaf) ? "running" : "open";
  }
}

function openIn({ coverage, dead }: UnitFacts): (leaf: LeafId) => boolean {
  return (leaf) => !coverage.done.has(leaf) && !coverage.invalid.has(leaf) && !dead.has(leaf);
}

interface Activity {
  requests: number;
  replayed: number;
  prompt_tokens: number | null;
  completion_tokens: number | null;
  first_at: string;
  last_at: string;
  invalid: Record<string, string>;
  servers: ServerLoad[];
}

function activitiesByUnit(
  writers: readonly WriterState[],
  gone: ReadonlySet<string>,
): Map<string, Activity> {
  const found = new Map<string, Activity>();
  for (const { units, agent } of writers) {
    const isLive = agent !== null && agent.state !== "ended" && !gone.has(agent.owner);
    for (const [unit, one] of Object.entries(units)) {
      const all = found.get(unit);
      found.set(unit, {
        requests: (all?.requests ?? 0) + one.requests,
        replayed: (all?.replayed ?? 0) + one.replayed,
        prompt_tokens: addKnown([all?.prompt_tokens ?? null, one.prompt_tokens]),
        completion_tokens: addKnown([all?.completion_tokens ?? null, one.completion_tokens]),
        first_at: all === undefined || one.first_at < all.first_at ? one.first_at : all.first_at,
        last_at: all === undefined || one.last_at > all.last_at ? one.last_at : all.last_at,
        invalid: { ...all?.invalid, ...one.invalid },
        servers: [
          ...(all?.servers ?? []),
          ...Object.values(one.loads).map((load) => (isLive ? load : { ...load, engine: null })),
        ],
      });
    }
  }
  return found;
}

function unitStateOf(
  plan: Plan,
  unit: PlannedUnit,
  { units }: RunFacts,
  activity: Activity | undefined,
): UnitState {
  const facts = units.get(unit.id);
  const leaves: LeafCounts = { total: 0, done: 0, invalid: 0, dead: 0, open: 0, running: 0 };
  const dead: UnitState["dead"] = [];
  const invalid: UnitState["invalid"] = [];
  for (const [leaf, state] of leafStates(plan, unit, facts)) {
    leaves.total += 1;
    leaves[state] += 1;
    if (state === "running") leaves.open += 1;
    const trouble = facts?.dead.get(leaf);
    if (state === "dead" && trouble !== undefined) dead.push({ leaf, ...trouble });
    if (state === "invalid") invalid.push({ leaf, reason: activity?.invalid[leaf] ?? null });
  }
  const stopped = leaves.open > 0 ? (facts?.stopped ?? null) : null;
  return {
    unit: unit.id,
    profile: unit.profile,
    state: decideState(leaves, stopped !== null, activity !== undefined),
    leaves,
    stopped,
    dead,
    invalid,
    requests: activity?.requests ?? 0,
    replayed: activity?.replayed ?? 0,
    prompt_tokens: activity?.prompt_tokens ?? null,
    completion_tokens: activity?.completion_tokens ?? null,
    servers: activity?.servers ?? [],
    first_at: activity?.first_at ?? null,
    last_at: activity?.last_at ?? null,
  };
}

function decideState(leaves: LeafCounts, stopped: boolean, begun: boolean): UnitStateName {
  if (leaves.done === leaves.total) return "completed";
  if (leaves.running > 0) return "running";
  if (leaves.open === 0 || stopped) return "failed";
  return begun || leaves.open < leaves.total ? "pending" : "not_started";
}

function agentStateOf(writer: WriterState, gone: ReadonlySet<string>): AgentState[] {
  const { agent } = writer;
  if (agent === null) return [];
  const state = agent.state !== "ended" && gone.has(agent.owner) ? "gone" : agent.state;
  const live = state === "running" || state === "draining";
  return [
    {
      ...agent,
      state,
      last_at: writer.last_at,
      at_hand: live ? Object.values(writer.batches).sort(bySlot) : [],
      servers: live ? Object.values(writer.servers) : [],
      requests_per_s: live ? (requestRate(writer) ?? null) : null,
    },
  ];
}

/** Those that wait for a slot come last. */
function bySlot(one: BatchActivity, other: BatchActivity): number {
  return (one.slot ?? Number.POSITIVE_INFINITY) - (other.slot ?? Number.POSITIVE_INFINITY) || 0;
}

/** Open leaves × mean duration of those that are done ÷ slots at work. Durations are each by one machine's clock. */
function estimateRest(
  open: number,
  live: readonly AgentState[],
  writers: readonly WriterState[],
): number | null {
  const slots = live.reduce((sum, agent) => sum + agent.slots, 0);
  let leaves = 0;
  let seconds = 0;
  for (const { units } of writers) {
    for (const unit of Object.values(units)) {
      leaves += unit.leaves;
      seconds += unit.leaves_s;
    }
  }
  if (open === 0 || slots === 0 || leaves === 0) return null;
  return Math.round(((seconds / leaves) * open) / Math.min(slots, open));
}

function countStates(units: readonly UnitState[]): RunState["unit_states"] {
  const counts = { completed: 0, running: 0, pending: 0, failed: 0, not_started: 0 };
  for (const { state } of units) counts[state] += 1;
  return counts;
}

function addCounts(all: readonly LeafCounts[]): LeafCounts {
  const sum = { total: 0, done: 0, invalid: 0, dead: 0, open: 0, running: 0 };
  for (const one of all) {
    for (const key of Object.keys(sum) as (keyof LeafCounts)[]) sum[key] += one[key];
  }
  return sum;
}

/** The sum of what is known; null when nothing is. */
function addKnown(values: readonly (number | null)[]): number | null {
  const known = values.filter((value) => value !== null);
  return known.length === 0 ? null : known.reduce((sum, value) => sum + value, 0);
}

function latest(times: readonly string[]): string | null {
  return times.reduce<string | null>((last, at) => (last === null || at > last ? at : last), null);
}

function compare(a: string, b: string): number {
  return a === b ? 0 : a < b ? -1 : 1;
}
