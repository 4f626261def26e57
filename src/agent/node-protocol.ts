/**
 * What a node agent and the lead agent say to each other: one JSON object per line, orders on the node agent's stdin,
 * reports on its stdout. End of its stdin means: stop every server, then exit.
 */
import * as z from "zod";

/** How requests of a unit ask its servers. */
export const HowToAsk = z.strictObject({
  /** Path and query of base_url. */
  path: z.string().startsWith("/"),
  kind: z.enum(["completions", "chat"]),
  /** Log-likelihoods will be asked for, with prompts as tokens or as text; null: generations alone. */
  echo: z.enum(["tokens", "text"]).nullable(),
  /** `model_args.header`, with the names of variables that only the node knows; null: lm_eval's own, with OPENAI_API_KEY. */
  headers: z.record(z.string(), z.string()).nullable(),
});
export type HowToAsk = z.output<typeof HowToAsk>;

export const ServerSpec = z.strictObject({
  server: z.int().nonnegative(),
  /** Another key under the same number is another server: the old one is stopped first. */
  key: z.string(),
  /** How many servers share this node, and which of them this one is. */
  share: z.strictObject({ index: z.int().nonnegative(), of: z.int().positive() }),
  /** Run by `bash -c`. */
  command: z.string(),
  /** Added to this node's environment as they are: EH_MODEL_PATH and so on. */
  env: z.record(z.string(), z.string()),
  /** `env_vars` of the config: expanded by bash on this node. */
  env_vars: z.record(z.string(), z.string()),
  cwd: z.string(),
  /** `{log_prefix}-attempt{k}.log` */
  log_prefix: z.string(),
  /** By which others reach this node's servers. */
  host: z.string(),
  max_wait_s: z.number().positive(),
  health_interval_s: z.number().positive(),
  start_attempts: z.int().positive(),
  /** What requests will call the model; null: nobody knows. */
  model: z.string().nullable(),
  /** Not there: requests do not come from lm_eval's own client, or go elsewhere. */
  ask: HowToAsk.optional(),
});
export type ServerSpec = z.output<typeof ServerSpec>;

export const NodeOrder = z.discriminatedUnion("type", [
  /** The whole list, each time: what is not in it is stopped. */
  z.strictObject({ type: z.literal("servers"), servers: z.array(ServerSpec) }),
  z.strictObject({ type: z.literal("ping"), n: z.int() }),
]);
export type NodeOrder = z.output<typeof NodeOrder>;

const about = { server: z.int(), key: z.string() };

export const NodeReport = z.discriminatedUnion("type", [
  z.strictObject({
    type: z.literal("starting"),
    ...about,
    start_attempt: z.int(),
    port: z.int(),
    log: z.string(),
  }),
  z.strictObject({
    type: z.literal("healthy"),
    ...about,
    start_attempt: z.int(),
    port: z.int(),
    url: z.string(),
    start_s: z.number(),
    /** Of servers that give equal answers. */
    identity: z.string(),
    /** It calls its model otherwise. */
    warning: z.string().optional(),
    /** Its log-probabilities of the probe, where the unit needs such. */
    echo: z.array(z.number()).optional(),
    /** Nats per token between two answers of its to the probe, if that is much; null: they differ in length. */
    unsteady: z.number().nullable().optional(),
  }),
  /** Runs, but does not answer: no requests until it is `healthy` again. */
  z.strictObject({ type: z.literal("unhealthy"), ...about, reason: z.string() }),
  /** Ended, or was ended; another attempt follows. */
  z.strictObject({
    type: z.literal("down"),
    ...about,
    /** It had been healthy. */
    served: z.boolean(),
    reason: z.string(),
    log_tail: z.array(z.string()),
  }),
  /** Given up. */
  z.strictObject({
    type: z.literal("failed"),
    ...about,
    /** It runs, but can't do what it is needed for. */
    unfit: z.boolean().optional(),
    reason: z.string(),
    log_tail: z.array(z.string()),
  }),
  /** On request. Nothing of it is left. */
  z.strictObject({ type: z.literal("stopped"), ...about }),
  z.strictObject({ type: z.literal("pong"), n: z.int() }),
]);
export type NodeReport = z.output<typeof NodeReport>;
