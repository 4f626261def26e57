import { Counts, Engine } from "../balancer/control.ts";
import type { EventEnvelope } from "./event.ts";

/** A batch that was leased, and the leaf that is evaluated of it. */
export interface BatchActivity {
  unit: string;
  batch: string;
  /** null: it waits for one. */
  slot: number | null;
  leaf: string | null;
  phase: string | null;
  done: number;
  total: number;
  /** Leaf of the batch → why its answers are not kept for another evaluation. */
  not_journalled: Record<string, string>;
}

export interface ServerActivity {
  server: number;
  unit: string | null;
  node: string;
  state: "starting" | "healthy" | "unhealthy" | "restarting" | "failed";
  start_attempt: number;
  reason: string | null;
}

/** What was found odd about a server. */
export interface ServerWarning {
  server: number;
  unit: string | null;
  node: string;
  kind: string;
  message: string;
  /** The server that it does not agree with. */
  other: number | null;
  /** Nats per token. */
  difference: number | null;
  at: string;
}

export interface AgentActivity {
  owner: string;
  pid: number;
  node: string;
  job: string | null;
  slots: number;
  state: "running" | "draining" | "ended";
  reason: string | null;
  message: string | null;
  started_at: string;
}

/** What a writer has done for one unit. */
export interface UnitActivity {
  first_at: string;
  last_at: string;
  /** Evaluated to the end by this writer, valid or not. */
  leaves: number;
  /** Of these leaves, from loading to the leaf file. */
  leaves_s: number;
  requests: number;
  /** Of these, answered from journals of evaluations that were cut off. */
  replayed: number;
  /** null: no server has told. */
  prompt_tokens: number | null;
  completion_tokens: number | null;
  /** Leaf → why its scores can't be trusted. */
  invalid: Record<string, string>;
  /** Of its servers, by their numbers. */
  loads: Record<string, ServerLoad>;
}

/** What requests at a server came to, as its agent told last. */
export interface ServerLoad {
  server: number;
  node: string;
  job: string | null;
  at: string;
  served: Counts;
  /** What the server said of itself; null: nothing that we know. */
  engine: Engine | null;
}

/** Milliseconds of the writer's clock, and requests answered up to then. */
export type RateSample = [atMs: number, answered: number];

/** All that one writer's events add up to. Plain data: it is kept between commands in the user's cache. */
export interface WriterState {
  writer: string;
  first_at: string;
  last_at: string;
  agent: AgentActivity | null;
  servers: Record<string, ServerActivity>;
  /** The latest of each kind about each server of each unit. */
  warnings: ServerWarning[];
  /** By id. */
  batches: Record<string, BatchActivity>;
  units: Record<string, UnitActivity>;
  /** Requests of leaves that have ended, one way or the other. */
  answered: number;
  samples: RateSample[];
}

/** The window in which requests per second are measured. */
const windowMs = 120_000;
const samplePauseMs = 5_000;

/** Adds an event to its writer's state. Events of one writer come in their order; those of others may come in between. */
export function addEvent(writers: Map<string, WriterState>, event: EventEnvelope): void {
  let state = writers.get(event.writer);
  if (state === undefined) {
    state = newWriter(event);
    writers.set(event.writer, state);
  }
  state.last_at = event.at;
  const unit = event.unit === undefined ? undefined : unitOf(state, event.unit, event.at);
  const [topic] = event.type.split(".", 1);
  if (topic === "agent") addAgent(state, event);
  else if (event.type === "server.warning") addWarning(state, event);
  else if (event.type === "server.load") addLoad(event, unit);
  else if (topic === "server") addServer(state, event);
  else if (topic === "batch") addBatch(state, event, unit);
  else if (topic === "leaf") addLeaf(state, event, unit);
  else if (event.type === "journal.off") addJournalOff(state, event);
}

function newWriter({ writer, at }: EventEnvelope): WriterState {
  return {
    writer,
    first_at: at,
    last_at: at,
    agent: null,
    servers: {},
    warnings: [],
    batches: {},
    units: {},
    answered: 0,
    samples: [],
  };
}

function unitOf(state: WriterState, unit: string, at: string): UnitActivity {
  const known = state.units[unit];
  if (known !== undefined) {
    known.last_at = at;
    return known;
  }
  const fresh: UnitActivity = {
    first_at: at,
    last_at: at,
    leaves: 0,
    leaves_s: 0,
    requests: 0,
    replayed: 0,
    prompt_tokens: null,
    completion_tokens: null,
    invalid: {},
    loads: {},
  };
  state.units[unit] = fresh;
  return fresh;
}

function addAgent(state: WriterState, event: EventEnvelope): void {
  const { agent } = state;
  if (event.type === "agent.started") {
    state.agent = {
      owner: text(event.owner) ?? "",
      pid: number(event.pid),
      node: event.node,
      job: event.job ?? null,
      slots: number(event.slots),
      state: "running",
      reason: null,
      message: null,
      started_at: event.at,
    };
  } else if (agent !== null && (event.type === "agent.draining" || event.type === "agent.ended")) {
    agent.state = event.type === "agent.ended" ? "ended" : "draining";
    agent.reason = text(event.reason);
    agent.message = text(event.message) ?? agent.message;
    if (agent.state === "ended") {
      for (const batch of Object.values(state.batches)) leaveLeaf(state, batch);
      state.batches = {};
      state.servers = {};
    }
  }
}

const serverStates: Readonly<Record<string, ServerActivity["state"]>> = {
  "server.starting": "starting",
  "server.healthy": "healthy",
  "server.unhealthy": "unhealthy",
  "server.restarted": "restarting",
  "server.failed": "failed",
};

function addLoad(event: EventEnvelope, unit: UnitActivity | undefined): void {
  const served = Counts.safeParse(event.served);
  if (unit === undefined || !served.success) return;
  const server = number(event.server);
  unit.loads[server] = {
    server,
    node: event.node,
    job: event.job ?? null,
    at: event.at,
    served: served.data,
    engine: Engine.nullable().safeParse(event.engine).data ?? null,
  };
}

/** Of one writer. */
const maxWarnings = 100;

function addWarning(state: WriterState, event: EventEnvelope): void {
  const warning: ServerWarning = {
    server: number(event.server),
    unit: event.unit ?? null,
    node: event.node,
    kind: text(event.kind) ?? "",
    message: text(event.message) ?? "",
    other: typeof event.other === "number" ? event.other : null,
    difference: typeof event.difference === "number" ? event.difference : null,
    at: event.at,
  };
  const isSame = (known: ServerWarning) =>
    known.server === warning.server &&
    known.unit === warning.unit &&
    known.kind === warning.kind &&
    known.other === warning.other;
  const others = state.warnings.filter((known) => !isSame(known));
  state.warnings = [...others, warning].slice(-maxWarnings);
}

function addServer(state: WriterState, event: EventEnvelope): void {
  const now = serverStates[event.type];
  if (now === undefined) return;
  const server = number(event.server);
  const before = state.servers[server];
  state.servers[server] = {
    server,
    unit: event.unit ?? before?.unit ?? null,
    node: event.node,
    state: now,
    start_attempt: number(event.start_attempt) || (before?.start_attempt ?? 0),
    reason: text(event.reason),
  };
}

function addBatch(state: WriterState, event: EventEnvelope, unit: UnitActivity | undefined): void {
  const id = event.batch ?? "";
  const batch = state.batches[id];
  if (event.type === "batch.leased") {
    state.batches[id] = {
      unit: event.unit ?? "",
      batch: id,
      slot: null,
      leaf: null,
      phase: null,
      done: 0,
      total: 0,
      not_journalled: {},
    };
  } else if (event.type === "batch.progress" && batch !== undefined) {
    if (event.leaf !== undefined) batch.leaf = event.leaf;
    batch.phase = text(event.phase);
    batch.done = number(event.done);
    batch.total = number(event.total);
    sample(state, event.at);
  } else if (event.type === "batch.ended") {
    if (batch !== undefined) leaveLeaf(state, batch);
    delete state.batches[id];
    if (unit === undefined) return;
    unit.prompt_tokens = sum(unit.prompt_tokens, event.prompt_tokens);
    unit.completion_tokens = sum(unit.completion_tokens, event.completion_tokens);
  }
}

function addLeaf(state: WriterState, event: EventEnvelope, unit: UnitActivity | undefined): void {
  const batch = state.batches[event.batch ?? ""];
  if (event.type === "leaf.started") {
    if (batch === undefined) return;
    leaveLeaf(state, batch);
    batch.slot = number(event.slot);
    batch.leaf = event.leaf ?? null;
    batch.phase = "loading";
    return;
  }
  const requests = number(event.n_requests);
  if (unit !== undefined && event.type === "leaf.invalid" && event.leaf !== undefined) {
    unit.invalid[event.leaf] = text(event.reason) ?? "";
  }
  if (unit !== undefined && event.type === "leaf.done" && event.recovered !== true) {
    unit.leaves += 1;
    unit.leaves_s += number(event.total_s);
    unit.requests += requests;
    unit.replayed += replayedOf(event.served);
  }
  if (batch === undefined || batch.leaf !== event.leaf) return;
  // A leaf that is done says how many requests it took; any other has had those of its last progress.
  if (event.type === "leaf.done") Object.assign(batch, { phase: "scoring", done: requests });
  leaveLeaf(state, batch);
  sample(state, event.at);
}

function addJournalOff(state: WriterState, event: EventEnvelope): void {
  const batch = state.batches[event.batch ?? ""];
  if (batch !== undefined && event.leaf !== undefined) {
    batch.not_journalled[event.leaf] = text(event.reason) ?? "";
  }
}

/** The leaf at hand is over, or will be evaluated anew: what it has asked stays asked. */
function leaveLeaf(state: WriterState, batch: BatchActivity): void {
  if (batch.phase !== "loading") state.answered += batch.done;
  batch.leaf = null;
  batch.phase = null;
  batch.done = 0;
  batch.total = 0;
}

/** Remembers how many requests were answered when, thinned out, for the last two minutes. */
function sample(state: WriterState, at: string): void {
  const atMs = Date.parse(at);
  if (Number.isNaN(atMs)) return;
  let answered = state.answered;
  for (const { phase, done } of Object.values(state.batches)) {
    if (phase === "requests" || phase === "scoring") answered += done;
  }
  const beforeLast = state.samples.at(-2);
  if (beforeLast !== undefined && atMs - beforeLast[0] < samplePauseMs) state.samples.pop();
  state.samples.push([atMs, answered]);
  while (state.samples.length > 2 && atMs - (state.samples[0] as RateSample)[0] > windowMs) {
    state.samples.shift();
  }
}

/** Requests per second in the writer's last two minutes, by its own clock; undefined when too little is known. */
export function requestRate({ samples }: WriterState): number | undefined {
  const [first] = samples;
  const last = samples.at(-1);
  if (first === undefined || last === undefined || last[0] - first[0] < 1_000) return undefined;
  return Math.max(((last[1] - first[1]) * 1_000) / (last[0] - first[0]), 0);
}

function replayedOf(served: unknown): number {
  return number((served as { replayed?: unknown } | undefined)?.replayed);
}

// Another version may have written the event: its fields are looked at before they are used.

function number(value: unknown): number {
  return typeof value === "number" && Number.isFinite(value) ? value : 0;
}

function text(value: unknown): string | null {
  return typeof value === "string" ? value : null;
}

function sum(total: number | null, value: unknown): number | null {
  return typeof value === "number" ? (total ?? 0) + value : total;
}
