import type { Limits } from "./limits.ts";

/** What has become of a request up to now. Counts of attempts by how they ended. */
export interface Tries {
  readonly lost: number;
  readonly stale: number;
  readonly serverErrors: number;
  readonly timeouts: number;
  readonly takenBack: number;
  readonly deaths: number;
  /** When the first of the answers came that asked for time; nothing else has come since. */
  readonly busySince: number | undefined;
  /** Pauses in a row: each is longer than the one before. */
  readonly pauses: number;
}

export const noTries: Tries = {
  lost: 0,
  stale: 0,
  serverErrors: 0,
  timeouts: 0,
  takenBack: 0,
  deaths: 0,
  busySince: undefined,
  pauses: 0,
};

/** How an attempt ended that brought no answer which the client should have at once. */
export type Failure =
  /** Never sent: nobody listens, nobody can be reached, or this machine has no socket left. */
  | { readonly kind: "unreachable" | "local" }
  /** A connection that had been closed before the request came: nobody's fault. */
  | { readonly kind: "stale" }
  /** Broken, cut short or malformed, by a server that lives. */
  | { readonly kind: "lost" }
  /** Its server died under it. */
  | { readonly kind: "died" }
  /** Taken back from a server that shows no sign of life. */
  | { readonly kind: "taken-back" }
  | { readonly kind: "timeout"; readonly afterMs: number }
  /** 500 and the like, by a server that lives. */
  | { readonly kind: "server-error" }
  /** 429, 502, 503, 504. */
  | { readonly kind: "busy"; readonly retryAfterMs: number };

export interface Circumstances {
  /** A server that has not been tried can be asked at once. */
  readonly othersLeft: boolean;
  /** All bytes of the request are still here. */
  readonly replayable: boolean;
  /** Servers that died lately without this request. */
  readonly otherDeaths: number;
  /** Fewer than three servers have answered it with an error, and others that have not are down: they may come back. */
  readonly unheard: boolean;
  readonly now: number;
  /** From 0 to 1. */
  readonly random: number;
}

export type Decision =
  /** Send it again, after a pause. */
  | { readonly kind: "again"; readonly pauseMs: number }
  /** The client gets the server's answer. */
  | { readonly kind: "pass" }
  /** Two servers have died under it: wait whether more die without it. */
  | { readonly kind: "detain" }
  | { readonly kind: "refuse"; readonly status: 502 | 504; readonly why: string };

const maxLost = 6;
const maxStale = 3;
const maxServerErrors = 3;
/** Of the few servers that are up, while others are down. */
const maxServerErrorsUnheard = 8;
const maxTimeouts = 3;
const maxTakenBack = 3;
/** Under a request that is sent on while other servers die without it. */
const maxDeaths = 4;
const suspiciousDeaths = 2;

/**
 * Whether a request is sent again. Completions are pure: asking twice does no harm, so whatever can be repeated is repeated,
 * and what has an end is a request that fails everywhere.
 * @returns what to do, and the tries with this failure counted
 */
export function decideRetry(
  before: Tries,
  failure: Failure,
  circumstances: Circumstances,
  limits: Limits,
): { readonly tries: Tries; readonly decision: Decision } {
  const tries = count(before, failure, circumstances.now);
  let decision = decide(tries, failure, circumstances, limits);
  if (decision.kind === "again" && !circumstances.replayable) decision = decideOnce(failure);
  if (decision.kind !== "again" || decision.pauseMs === 0) return { tries, decision };
  return { tries: { ...tries, pauses: tries.pauses + 1 }, decision };
}

function count(before: Tries, { kind }: Failure, now: number): Tries {
  const tries = kind === "busy" ? before : { ...before, busySince: undefined };
  switch (kind) {
    case "unreachable":
    case "local":
      return tries;
    case "stale":
      return { ...tries, stale: tries.stale + 1 };
    case "lost":
      return { ...tries, lost: tries.lost + 1 };
    case "died":
      return { ...tries, deaths: tries.deaths + 1 };
    case "taken-back":
      return { ...tries, takenBack: tries.takenBack + 1 };
    case "timeout":
      return { ...tries, timeouts: tries.timeouts + 1 };
    case "server-error":
      return { ...tries, serverErrors: tries.serverErrors + 1 };
    case "busy":
      return { ...tries, busySince: tries.busySince ?? now };
  }
}

function decide(
  tries: Tries,
  failure: Failure,
  circumstances: Circumstances,
  limits: Limits,
): Decision {
  const again = decideAgain(tries, circumstances, limits);
  switch (failure.kind) {
    case "unreachable":
      // It waits, if need be, until a server is seen again.
      return atOnce;
    case "local":
      return { kind: "again", pauseMs: pause(tries, circumstances, limits) };
    case "stale":
      // Its next connection is a new one, so that this can't go on for long.
      return tries.stale < maxStale ? atOnce : again;
    case "lost":
      if (tries.lost < maxLost) return again;
      return refuse(502, `${maxLost} attempts came to nothing`);
    case "taken-back":
      if (tries.takenBack < maxTakenBack) return again;
      return refuse(504, `${maxTakenBack} servers froze under it`);
    case "timeout":
      if (tries.timeouts < maxTimeouts) return again;
      return refuse(504, `No answer within ${failure.afterMs / 1000} s, ${maxTimeouts} times`);
    case "died":
      return decideDeath(tries, circumstances);
    case "server-error":
      // A server that answers everything so is no witness: those that are down may know better.
      return tries.serverErrors < (circumstances.unheard ? maxServerErrorsUnheard : maxServerErrors)
        ? again
        : { kind: "pass" };
    case "busy":
      return decideBusy(tries, failure.retryAfterMs, circumstances, limits);
  }
}

const atOnce: Decision = { kind: "again", pauseMs: 0 };

/** A request that was too large to be kept has one try. */
function decideOnce({ kind }: Failure): Decision {
  if (kind === "server-error" || kind === "busy") return { kind: "pass" };
  return refuse(502, "It was lost on its way, and was too large to be kept");
}

function refuse(status: 502 | 504, why: string): Decision {
  return { kind: "refuse", status, why };
}

function decideAgain(tries: Tries, circumstances: Circumstances, limits: Limits): Decision {
  if (circumstances.othersLeft) return atOnce;
  return { kind: "again", pauseMs: pause(tries, circumstances, limits) };
}

function pause(tries: Tries, { random }: Circumstances, limits: Limits): number {
  return jitter(Math.min(limits.pauseMs * 2 ** tries.pauses, limits.longestPauseMs), random);
}

/** Requests that failed together should not come back together. */
function jitter(ms: number, random: number): number {
  return ms * (0.75 + random / 2);
}

/**
 * A request that kills its servers must not kill many. But servers also die by themselves, and then others die without it: each
 * of those deaths excuses one of its own.
 */
function decideDeath(tries: Tries, { otherDeaths }: Circumstances): Decision {
  const { deaths } = tries;
  if (deaths >= maxDeaths) return refuse(502, `${deaths} servers died under it`);
  // Whoever waits for its server waits without a pause.
  return deaths < suspiciousDeaths + otherDeaths ? atOnce : { kind: "detain" };
}

function decideBusy(
  tries: Tries,
  retryAfterMs: number,
  circumstances: Circumstances,
  limits: Limits,
): Decision {
  if (circumstances.othersLeft) return atOnce;
  if (circumstances.now - (tries.busySince ?? circumstances.now) >= limits.busyForMs) {
    return { kind: "pass" };
  }
  const ownMs = Math.min(limits.busyPauseMs * 2 ** tries.pauses, limits.longestBusyPauseMs);
  const askedMs = Math.min(retryAfterMs, limits.longestRetryAfterMs);
  const pauseMs = jitter(ownMs, circumstances.random);
  return { kind: "again", pauseMs: Math.max(pauseMs, askedMs) };
}
