/**
 * What is known of a server's health, as a state machine without clock, timer or socket: `nextHealth` says what an event
 * makes of it, `standingOf` what that means for requests.
 */
export interface Health {
  /** It is not reachable: why, and how many checks in a row bring it back. */
  readonly down: { readonly reason: string; readonly passesNeeded: number } | undefined;
  readonly passedChecks: number;
  readonly failedChecks: number;
  /** When it passed a check for the last time; at first, when it became known. */
  readonly passedAt: number;
  /** When each of its latest failure incidents began. */
  readonly incidents: readonly number[];
  /** Answers in a row that no server should give, and when the first of them came. */
  readonly badAnswers: number;
  readonly badSince: number;
  /** It is put out until then, and gets one request for a trial afterwards. */
  readonly outUntil: number | undefined;
  readonly outFor: "bad-answers" | "incidents" | undefined;
  /** How often in a row it was put out. */
  readonly outs: number;
  /** It has asked for time until then, so often in a row. */
  readonly busyUntil: number;
  readonly busyAnswers: number;
}

export type HealthEvent =
  | { readonly kind: "check-passed" }
  | { readonly kind: "check-failed"; readonly reason: string }
  /** Nobody listens, or nobody can be reached: out at once. */
  | { readonly kind: "unreachable"; readonly reason: string }
  /** An answer that says nothing bad of the server: also 4xx. */
  | { readonly kind: "answered" }
  /** 5xx, or an answer that is cut short or malformed. */
  | {
      readonly kind: "bad-answer";
      /** When another server gave a good one for the last time. */
      readonly othersAnsweredAt: number;
    }
  /** Every server gives this bad answer to this request: it was not this one's fault. */
  | { readonly kind: "pardoned" }
  /** A connection broke, an attempt took too long. */
  | { readonly kind: "failed" }
  /** 429, 503 and the like: it asks for time. */
  | { readonly kind: "busy"; readonly forMs: number };

/**
 * `ready`: asked. `busy`: asked when all are. `trial`: gets one request. `out`: asked only if no other one can be. `down`: never
 * asked.
 */
export type Standing = "ready" | "busy" | "trial" | "out" | "down";

const failedChecksUntilDown = 2;
const passesAfterFailedChecks = 1;
/** A server that died may die again at once. */
const passesAfterDeath = 2;

/** Failures of this time are one incident: a server that dies with a hundred requests has failed once. */
const incidentMs = 1_000;
const incidentsUntilOut = 3;
const incidentWindowMs = 30_000;
const badAnswersUntilOut = 5;
const firstOutMs = 1_000;
const longestOutMs = 30_000;
const firstBusyMs = 200;
const longestBusyMs = 5_000;

export function freshHealth(now: number): Health {
  return {
    down: undefined,
    passedChecks: 0,
    failedChecks: 0,
    passedAt: now,
    incidents: [],
    badAnswers: 0,
    badSince: 0,
    outUntil: undefined,
    outFor: undefined,
    outs: 0,
    busyUntil: 0,
    busyAnswers: 0,
  };
}

/** @param now on any clock that does not jump, always the same one */
export function nextHealth(health: Health, event: HealthEvent, now: number): Health {
  switch (event.kind) {
    case "check-passed":
      return passCheck(health, now);
    case "check-failed":
      return failCheck(health, event.reason);
    case "unreachable": {
      const down = { reason: event.reason, passesNeeded: passesAfterDeath };
      return { ...health, down, passedChecks: 0, failedChecks: health.failedChecks + 1 };
    }
    case "answered":
      return answer(health, now);
    case "bad-answer":
      return answerBadly(health, event.othersAnsweredAt, now);
    case "pardoned":
      return pardon(health);
    case "failed":
      return fail(health, now);
    case "busy": {
      const ownMs = Math.min(firstBusyMs * 2 ** health.busyAnswers, longestBusyMs);
      const busyUntil = Math.max(health.busyUntil, now + Math.max(ownMs, event.forMs));
      return { ...health, busyUntil, busyAnswers: health.busyAnswers + 1 };
    }
  }
}

export function standingOf(health: Health, now: number): Standing {
  if (health.down !== undefined) return "down";
  if (health.outUntil !== undefined) return now < health.outUntil ? "out" : "trial";
  return now < health.busyUntil ? "busy" : "ready";
}

/** True when its requests should be given to others: checks fail, and nothing was heard of it for so long. */
export function isFrozen(
  health: Health,
  since: { readonly answeredAt: number; readonly now: number; readonly takeBackMs: number },
): boolean {
  if (health.failedChecks < failedChecksUntilDown) return false;
  return since.now - Math.max(health.passedAt, since.answeredAt) >= since.takeBackMs;
}

function passCheck(health: Health, now: number): Health {
  const passedChecks = health.passedChecks + 1;
  const passed = { ...health, passedChecks, failedChecks: 0, passedAt: now };
  if (health.down === undefined || passedChecks < health.down.passesNeeded) return passed;
  // What it did before it went down says nothing about the one that has come back.
  return { ...freshHealth(now), passedChecks };
}

function failCheck(health: Health, reason: string): Health {
  const failedChecks = health.failedChecks + 1;
  const failed = { ...health, passedChecks: 0, failedChecks };
  if (health.down !== undefined || failedChecks < failedChecksUntilDown) return failed;
  return { ...failed, down: { reason, passesNeeded: passesAfterFailedChecks } };
}

function answer(health: Health, now: number): Health {
  const { badAnswers, outUntil, busyAnswers } = health;
  if (badAnswers === 0 && outUntil === undefined && busyAnswers === 0) return health;
  const calm = { ...health, badAnswers: 0, busyUntil: 0, busyAnswers: 0 };
  // A late answer of a server that was put out: its trial decides.
  if (outUntil === undefined || now < outUntil) return calm;
  return { ...calm, incidents: [], outUntil: undefined, outFor: undefined, outs: 0 };
}

function answerBadly(health: Health, othersAnsweredAt: number, now: number): Health {
  const badAnswers = health.badAnswers + 1;
  const badSince = health.badAnswers === 0 ? now : health.badSince;
  const counted = { ...health, badAnswers, badSince };
  if (standingOf(health, now) === "trial") return putOut(counted, "bad-answers", now);
  if (health.outUntil !== undefined) return counted;
  if (badAnswers < badAnswersUntilOut || othersAnsweredAt < badSince) return counted;
  return putOut(counted, "bad-answers", now);
}

function pardon(health: Health): Health {
  const badAnswers = Math.max(0, health.badAnswers - 1);
  const pardoned = { ...health, badAnswers };
  if (health.outFor !== "bad-answers" || badAnswers >= badAnswersUntilOut) return pardoned;
  return {
    ...pardoned,
    outUntil: undefined,
    outFor: undefined,
    outs: Math.max(0, health.outs - 1),
  };
}

function fail(health: Health, now: number): Health {
  if (standingOf(health, now) === "trial") return putOut(health, "incidents", now);
  const latest = health.incidents.at(-1);
  if (latest !== undefined && now - latest < incidentMs) return health;
  const recent = health.incidents.filter((at) => now - at < incidentWindowMs);
  const counted = { ...health, incidents: [...recent, now] };
  if (counted.incidents.length < incidentsUntilOut || health.outUntil !== undefined) return counted;
  return putOut(counted, "incidents", now);
}

function putOut(health: Health, outFor: "bad-answers" | "incidents", now: number): Health {
  const outMs = Math.min(firstOutMs * 2 ** health.outs, longestOutMs);
  return { ...health, outUntil: now + outMs, outFor, outs: health.outs + 1 };
}
