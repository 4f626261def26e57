/**
 * What the balancer and whoever starts it say to each other: one JSON object per line, orders on its stdin, reports on its
 * stdout. End of its stdin means: stop.
 */
import { z } from "zod";

export const Backend = z.strictObject({
  /** Stable for the life of a server; only for reports. */
  id: z.string(),
  /** `http://host:port`, without a path. */
  url: z.url(),
});
export type Backend = z.output<typeof Backend>;

export const BalancerOrder = z.discriminatedUnion("type", [
  /** First of all. Answered by `listening`. */
  z.strictObject({
    type: z.literal("listen"),
    /** The first free one is taken; 0: any. */
    ports: z.array(z.int().nonnegative()).nonempty(),
    /** Requests whose path lacks it are refused: compute nodes have other users. */
    token: z.string(),
    /** Of one attempt of one request; waiting for a server does not count. */
    attempt_timeout_s: z.number().positive(),
  }),
  /** The whole list, each time. */
  z.strictObject({
    type: z.literal("servers"),
    servers: z.array(Backend),
    /** More may come: requests wait for them. False: without a server a request is answered with 503 at once. */
    expected: z.boolean(),
    attempt_timeout_s: z.number().positive().optional(),
  }),
  /** Asks for the counts of an account and forgets them. Answered by `settled`. */
  z.strictObject({ type: z.literal("settle"), account: z.string() }),
  /** Asks for `totals` at once. Those that follow count what this order and later ones bring about. */
  z.strictObject({ type: z.literal("totals") }),
  z.strictObject({ type: z.literal("ping"), n: z.int() }),
]);
export type BalancerOrder = z.output<typeof BalancerOrder>;

const counts = {
  /** Answered with 2xx. */
  answered: z.int(),
  /** Answered with anything else. */
  refused: z.int(),
  prompt_tokens: z.int(),
  completion_tokens: z.int(),
};
export const Counts = z.strictObject(counts);
export type Counts = z.output<typeof Counts>;

export const BalancerReport = z.discriminatedUnion("type", [
  z.strictObject({ type: z.literal("listening"), port: z.int() }),
  /** Since the start; sent when asked for, and else at most four times a second, when something has changed. */
  z.strictObject({
    type: z.literal("totals"),
    ...counts,
    in_flight: z.int(),
    waiting: z.int(),
    retries: z.int(),
  }),
  z.strictObject({ type: z.literal("settled"), account: z.string(), ...counts }),
  z.strictObject({ type: z.literal("pong"), n: z.int() }),
  /** The process ends after it. */
  z.strictObject({ type: z.literal("fatal"), message: z.string() }),
]);
export type BalancerReport = z.output<typeof BalancerReport>;
