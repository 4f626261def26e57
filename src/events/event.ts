import * as z from "zod";
import { Counts, Engine } from "../balancer/control.ts";
import { FailureClass } from "../lmeval/failure-class.ts";

const fields = {
  /** What the balancer counted of the leaf's requests; not there: it did not count, or died. */
  served: Counts.optional(),
  /** agent: why it ended or drains. */
  endReason: z.enum([
    "complete",
    "incomplete",
    "drained",
    "interrupted",
    "time-limit",
    "preempted",
    "cancelled",
    "parent-lost",
    "failed",
  ]),
};

/** What each type of event adds to the envelope. Durations in seconds, sizes in bytes. */
export const eventBodies = {
  "run.created": z.strictObject({ eval_hive_version: z.string(), units: z.int(), leaves: z.int() }),
  "run.updated": z.strictObject({ eval_hive_version: z.string(), units: z.int(), leaves: z.int() }),
  "agent.started": z.strictObject({
    pid: z.int(),
    owner: z.string(),
    slots: z.int(),
    eval_hive_version: z.string(),
  }),
  /** It has seen that the plan was replaced: it finishes the leaves at hand, then goes on by the new one. */
  "agent.plan-changed": z.strictObject({}),
  "agent.draining": z.strictObject({ reason: fields.endReason }),
  "agent.ended": z.strictObject({ reason: fields.endReason, message: z.string().optional() }),
  "harness.started": z.strictObject({ pid: z.int(), start_s: z.number(), lm_eval: z.string() }),
  /** `cpu_s`: what it and all its children have cost; not there when it was killed. */
  "harness.ended": z.strictObject({ pid: z.int(), how: z.string(), cpu_s: z.number().optional() }),
  "balancer.started": z.strictObject({ pid: z.int(), port: z.int() }),
  "balancer.ended": z.strictObject({ pid: z.int(), how: z.string() }),
  "server.starting": z.strictObject({
    server: z.int(),
    start_attempt: z.int(),
    port: z.int(),
    log: z.string(),
  }),
  "server.healthy": z.strictObject({
    server: z.int(),
    start_attempt: z.int(),
    port: z.int(),
    start_s: z.number(),
  }),
  "server.unhealthy": z.strictObject({ server: z.int(), reason: z.string() }),
  "server.restarted": z.strictObject({ server: z.int(), reason: z.string() }),
  "server.failed": z.strictObject({
    server: z.int(),
    reason: z.string(),
    log_tail: z.array(z.string()),
  }),
  /** It serves, but something about it is odd. */
  "server.warning": z.strictObject({
    server: z.int(),
    /**
     * `model-name`: it calls its model otherwise. `unsteady`: its answers depend on what was asked before. `disagreement`:
     * another server of the unit gives other log-probabilities to the same prompt.
     */
    kind: z.enum(["model-name", "unsteady", "disagreement"]),
    message: z.string(),
    other: z.int().nullable(),
    /** Measured: nats per token. null: not of such a kind, or the numbers of tokens differ. */
    difference: z.number().nullable(),
  }),
  /** Once a minute while a unit has servers, and when it has ended. */
  "server.load": z.strictObject({
    server: z.int(),
    /** What the unit's requests there came to since it has the server. */
    served: Counts,
    /** What the server says of itself; null: nothing that we know. */
    engine: Engine.nullable(),
  }),
  "batch.leased": z.strictObject({ leaves: z.array(z.string()) }),
  /** At most one per batch in 5 s: progress of the leaf at hand. A leaf that was started is loading until then. */
  "batch.progress": z.strictObject({
    phase: z.enum(["requests", "scoring"]),
    done: z.int(),
    total: z.int(),
  }),
  /** Its owner is dead, and it is free again. */
  "batch.reclaimed": z.strictObject({ owner: z.string() }),
  "batch.ended": z.strictObject({
    outcome: z.enum(["settled", "released", "lost"]),
    reason: z.string().optional(),
    duration_s: z.number(),
    requests: z.int().nullable(),
    prompt_tokens: z.int().nullable(),
    completion_tokens: z.int().nullable(),
    /** CPU seconds of its evaluations, without harnesses that died under it. */
    cpu_s: z.number(),
  }),
  /** Its batch may be in the slot for some time: leaf after leaf. */
  "leaf.started": z.strictObject({ slot: z.int(), fingerprint: z.string() }),
  "leaf.done": z.strictObject({
    fingerprint: z.string(),
    result: z.string(),
    outcome: z.enum(["created", "existing"]),
    n_samples: z.int(),
    n_requests: z.int(),
    load_s: z.number(),
    requests_s: z.number(),
    total_s: z.number(),
    served: fields.served,
    /** The leaf file was found without its event: its writer died in between. */
    recovered: z.boolean().optional(),
  }),
  "leaf.invalid": z.strictObject({
    fingerprint: z.string(),
    result: z.string(),
    reason: z.string(),
    served: fields.served,
  }),
  "leaf.failed": z.strictObject({
    fingerprint: z.string(),
    class: FailureClass,
    message: z.string(),
    trace_tail: z.array(z.string()),
    /** null: this end was no strike (time limit, node loss, broken server …). */
    strike: z.int().nullable(),
  }),
  /** Its evaluation ended in the middle for a reason that is not its own: it begins again. */
  "leaf.excused": z.strictObject({ fingerprint: z.string(), reason: z.string() }),
  "leaf.dead": z.strictObject({
    fingerprint: z.string(),
    class: FailureClass,
    message: z.string(),
    strikes: z.int(),
  }),
  /** No more answers of the leaf are kept: what it asks from here on is asked again if it is cut off. */
  "journal.off": z.strictObject({ reason: z.string() }),
  "unit.started": z.strictObject({ generation: z.int() }),
  "unit.failed": z.strictObject({ reason: z.string(), class: z.string(), n: z.int() }),
  "unit.ended": z.strictObject({
    done: z.int(),
    invalid: z.int(),
    dead: z.int(),
    open: z.int(),
    duration_s: z.number(),
  }),
  "job.submitted": z.strictObject({ job: z.string(), units: z.array(z.string()) }),
  "job.cancelled": z.strictObject({ job: z.string(), by: z.string() }),
  "collect.done": z.strictObject({ output: z.string(), rows: z.int() }),
} as const;

export type EventType = keyof typeof eventBodies;
export type EventBody<T extends EventType> = z.input<(typeof eventBodies)[T]>;

/** What an event is about; every part that applies is given. */
export interface EventSubject {
  readonly unit?: string;
  readonly batch?: string;
  readonly attempt?: number;
  readonly leaf?: string;
  readonly job?: string;
}

/** The envelope. `(writer, seq)` is unique and gap-free, so a reader knows when it has missed something. */
export const EventEnvelope = z.looseObject({
  schema_version: z.literal(1),
  type: z.string(),
  run: z.string(),
  unit: z.string().optional(),
  batch: z.string().optional(),
  attempt: z.int().optional(),
  leaf: z.string().optional(),
  job: z.string().optional(),
  node: z.string(),
  /** One process of ours: one file. */
  writer: z.string(),
  /** From 1. */
  seq: z.int().positive(),
  /** ISO 8601, UTC: for display; order within a writer is `seq`, between writers there is none. */
  at: z.string(),
  /** Long strings and lists were cut: the line would have been longer than 16 KiB. */
  shortened: z.boolean().optional(),
});
export type EventEnvelope = z.output<typeof EventEnvelope>;

/** An event of a type that this version knows. */
export type KnownEvent = {
  [T in EventType]: EventEnvelope & { readonly type: T } & z.output<(typeof eventBodies)[T]>;
}[EventType];

/** Accepts events. Whatever has been accepted is in the file before the promise settles. */
export interface EventSink {
  publish<T extends EventType>(type: T, subject: EventSubject, body: EventBody<T>): Promise<void>;
}
