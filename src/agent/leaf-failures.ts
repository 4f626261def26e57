import type { Clock } from "../base/clock.ts";
import { EnvironmentError } from "../base/errors.ts";
import type { EventSink, EventSubject } from "../events/event.ts";
import type { FailureClass } from "../lmeval/failure-class.ts";
import { readStrikes, recordStrike, strikeKey } from "../queue/strikes.ts";
import type { LeafId, OwnerId } from "../run/ids.ts";
import { fingerprintOf, type WorkUnit } from "./unit.ts";

export interface LeafFailure {
  readonly class: FailureClass;
  readonly permanent: boolean;
  readonly message: string;
  readonly trace_tail: readonly string[];
}

/** Thrown when the place of results, or of what lm_eval keeps, takes no file: no leaf is at fault, and none can be done here. */
export class PlaceFullError extends EnvironmentError {
  constructor(leaf: LeafId, { message }: LeafFailure) {
    super("results.write", `Cannot evaluate "${leaf}": a file can't be written: ${message}`, {
      hint: "Free space or inodes there (df -h, df -i, quota -s), or mend what is said, then repeat the command: finished leaves are kept.",
    });
  }
}

/** Which evaluation failed. */
export interface FailedAttempt {
  readonly leaf: LeafId;
  readonly owner: OwnerId;
  readonly batch: string;
  readonly attempt: number;
}

export interface FailureDeps {
  readonly unit: WorkUnit;
  readonly events: EventSink;
  readonly clock: Clock;
}

/** Records a real failure of a leaf. @returns true when the leaf is dead now. */
export async function strike(
  { unit, events, clock }: FailureDeps,
  subject: EventSubject,
  { leaf, ...attempt }: FailedAttempt,
  failure: LeafFailure,
): Promise<boolean> {
  const fingerprint = fingerprintOf(unit, leaf);
  const key = strikeKey(leaf, fingerprint);
  const { class: failureClass, permanent, message } = failure;
  const trace_tail = failure.trace_tail.slice(-20);
  const at = new Date(clock.now()).toISOString();
  await recordStrike(unit.layout, unit.planned.id, key, {
    kind: "strike",
    class: failureClass,
    permanent,
    message,
    trace_tail,
    ...attempt,
    at,
  });
  const about = { ...subject, leaf };
  const body = { fingerprint, class: failureClass, message };
  const state = (await readStrikes(unit.layout, unit.planned.id)).get(key);
  await events.publish("leaf.failed", about, {
    ...body,
    trace_tail,
    strike: state?.strikes ?? null,
  });
  if (state?.isDead !== true) return false;
  await events.publish("leaf.dead", about, { ...body, strikes: state.strikes });
  return true;
}

/** Records that an evaluation ended for a reason that is not the leaf's; many of these are a strike after all. */
export async function excuse(
  { unit, events, clock }: FailureDeps,
  subject: EventSubject,
  { leaf, ...attempt }: FailedAttempt,
  reason: string,
): Promise<void> {
  const fingerprint = fingerprintOf(unit, leaf);
  const key = strikeKey(leaf, fingerprint);
  const at = new Date(clock.now()).toISOString();
  await recordStrike(unit.layout, unit.planned.id, key, {
    kind: "excused",
    reason,
    ...attempt,
    at,
  });
  await tellExcused({ unit, events }, { ...subject, leaf }, reason);
}

/** Tells, and no more, that an evaluation was begun and did not come to its end. */
export async function tellExcused(
  { unit, events }: Pick<FailureDeps, "unit" | "events">,
  about: EventSubject & { readonly leaf: LeafId },
  reason: string,
): Promise<void> {
  const fingerprint = fingerprintOf(unit, about.leaf);
  await events.publish("leaf.excused", about, { fingerprint, reason });
}

/** Tells of a failure that is no strike. */
export async function reportExcused(
  { unit, events }: Pick<FailureDeps, "unit" | "events">,
  about: EventSubject & { readonly leaf: LeafId },
  { class: failureClass, message, trace_tail }: LeafFailure,
): Promise<void> {
  await events.publish("leaf.failed", about, {
    fingerprint: fingerprintOf(unit, about.leaf),
    class: failureClass,
    message,
    trace_tail: trace_tail.slice(-20),
    strike: null,
  });
}

/** Takes back the strikes of leaves that turned out not to be at fault. */
export async function pardon(
  { unit, clock }: Pick<FailureDeps, "unit" | "clock">,
  leaves: Iterable<LeafId>,
): Promise<void> {
  const at = new Date(clock.now()).toISOString();
  for (const leaf of leaves) {
    const key = strikeKey(leaf, fingerprintOf(unit, leaf));
    await recordStrike(unit.layout, unit.planned.id, key, {
      kind: "void",
      command: "stop unit",
      at,
    });
  }
}
