/**
 * What the balancer and whoever starts it say to each other: one JSON object per line, orders on its stdin, reports on its
 * stdout. End of its stdin means: stop.
 */
import * as z from "zod";

export const Backend = z.strictObject({
  /** Stable for the life of a server; only for reports. */
  id: z.string(),
  /** `http://host:port`, without a path. */
  url: z.url({ protocol: /^http$/ }),
  /** Gets requests in proportion to it. Default: 1. */
  weight: z.number().positive().optional(),
  /** More wait until it has room. Default: no limit. */
  max_in_flight: z.int().positive().optional(),
});
export type Backend = z.output<typeof Backend>;

export const BalancerOrder = z.discriminatedUnion("type", [
  /** First of all. Answered by `listening`. */
  z.strictObject({
    type: z.literal("listen"),
    /** The first free one is taken; 0: any. */
    ports: z.array(z.int().nonnegative()).nonempty(),
    /** Default: loopback. */
    host: z.string().optional(),
    /** Requests whose path or `Authorization` lacks it are refused: compute nodes have other users. */
    token: z.string().min(1),
    /** `prompt`: requests with the same beginning of their prompt go to the same server as long as it has room. */
    affinity: z.enum(["none", "prompt"]).optional(),
    /** What health checks ask for. Default: `/health`. */
    health_path: z.string().startsWith("/").optional(),
    /** Of one attempt of one request; waiting for a server does not count. */
    attempt_timeout_s: z.number().positive(),
  }),
  /** The whole list, each time. */
  z.strictObject({
    type: z.literal("servers"),
    servers: z.array(Backend),
    /**
     * More may come, or come back: requests wait for them. False: without any server a request is answered with 503 at once,
     * and after five minutes when there are some but none answers.
     */
    expected: z.boolean(),
    attempt_timeout_s: z.number().positive().optional(),
    /** Servers that are expected and can't be asked now: they may answer what these do not. */
    missing: z.int().nonnegative().optional(),
    /** Servers with equal ones give equal answers. Left out: nobody knows, and no journal is kept. */
    identity: z.string().optional(),
  }),
  /**
   * The requests of this part have a journal from now on: an answer of an earlier one is given again, once, before any server
   * is asked, and what servers answer is written down. Nobody else may write to its files.
   */
  z.strictObject({
    type: z.literal("journal"),
    account: z.string(),
    part: z.string(),
    /** Paths of earlier journals. */
    read: z.array(z.string()),
    /** What earlier processes wrote for this part: it is not given again, but says what was. */
    own: z.array(z.string()),
    /** Path of a file that is not there yet: made when there is something to keep. */
    write: z.string(),
    limit_bytes: z.int().nonnegative(),
    /** All journals with this name have so many bytes together. */
    budget: z.strictObject({ name: z.string(), limit_bytes: z.int().nonnegative() }),
  }),
  /** Ends the journals of an account, or of one part of it. Answered by `journal-closed` when nothing is written any more. */
  z.strictObject({
    type: z.literal("close-journal"),
    account: z.string(),
    part: z.string().optional(),
  }),
  /** Asks for the counts of an account, or of one part of it, and forgets them. Answered by `settled`. */
  z.strictObject({
    type: z.literal("settle"),
    account: z.string(),
    part: z.string().optional(),
  }),
  /** Asks for `totals` at once. Those that follow count what this order and later ones bring about. */
  z.strictObject({ type: z.literal("totals") }),
  z.strictObject({ type: z.literal("ping"), n: z.int() }),
]);
export type BalancerOrder = z.output<typeof BalancerOrder>;

const counts = {
  /** Answered with 2xx by a server. */
  answered: z.int(),
  /** Answered with anything else. */
  refused: z.int(),
  /** Answered from a journal. Not there in what was counted before there were any. */
  replayed: z.int().default(0),
  /** Not answered: their clients went. */
  abandoned: z.int(),
  /** Attempts beyond the first of each. */
  retries: z.int(),
  /** null: no answer has told them. */
  prompt_tokens: z.int().nullable(),
  completion_tokens: z.int().nullable(),
  /** Waiting for a server, and at a server: sums over all attempts. */
  queue_s: z.number(),
  service_s: z.number(),
};
export const Counts = z.strictObject(counts);
export type Counts = z.output<typeof Counts>;

/** What an inference server says of itself, where we know its words (vLLM, SGLang). Rates are between two readings. */
export const Engine = z.strictObject({
  /** Requests that it works on, and those that wait inside it. */
  running: z.number(),
  waiting: z.number(),
  /** Of its key-value cache, 0 to 1; null: it does not say. */
  cache_use: z.number().nullable(),
  prompt_tokens_per_s: z.number().nullable(),
  completion_tokens_per_s: z.number().nullable(),
});
export type Engine = z.output<typeof Engine>;

export function sumCounts(all: Iterable<Counts>): Counts {
  const sum: Counts = {
    answered: 0,
    refused: 0,
    replayed: 0,
    abandoned: 0,
    retries: 0,
    prompt_tokens: null,
    completion_tokens: null,
    queue_s: 0,
    service_s: 0,
  };
  for (const one of all) {
    for (const key of Object.keys(sum) as (keyof Counts)[]) {
      const value = one[key];
      if (value !== null) sum[key] = (sum[key] ?? 0) + value;
    }
  }
  return sum;
}

/** What has come since an earlier count of the same. */
export function subtractCounts(now: Counts, before: Counts | undefined): Counts {
  if (before === undefined) return now;
  const more = { ...now };
  for (const key of Object.keys(now) as (keyof Counts)[]) {
    const value = now[key];
    if (value !== null) more[key] = Number((value - (before[key] ?? 0)).toFixed(3));
  }
  return more;
}

export const BalancerReport = z.discriminatedUnion("type", [
  z.strictObject({ type: z.literal("listening"), port: z.int() }),
  /** Since the start; sent when asked for, and else at most four times a second, when something has changed. */
  z.strictObject({
    type: z.literal("totals"),
    ...counts,
    /** By their ids, those that have left included. An attempt that another one followed counts as refused or abandoned. */
    servers: z.record(z.string(), Counts),
    /** By the ids of servers that are on the list and tell it. */
    engines: z.record(z.string(), Engine),
    in_flight: z.int(),
    waiting: z.int(),
  }),
  z.strictObject({
    type: z.literal("settled"),
    account: z.string(),
    /** The one that was asked for alone. */
    part: z.string().optional(),
    /** By the second part of the prefixes of their paths. */
    parts: z.record(z.string(), Counts),
  }),
  /** No more is kept of this part, for a reason that is told once. */
  z.strictObject({
    type: z.literal("journal-off"),
    account: z.string(),
    part: z.string(),
    reason: z.string(),
  }),
  z.strictObject({
    type: z.literal("journal-closed"),
    account: z.string(),
    part: z.string().optional(),
  }),
  z.strictObject({ type: z.literal("pong"), n: z.int() }),
  /** The process ends after it. */
  z.strictObject({ type: z.literal("fatal"), message: z.string() }),
]);
export type BalancerReport = z.output<typeof BalancerReport>;
