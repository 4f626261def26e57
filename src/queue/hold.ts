import { rm } from "node:fs/promises";
import { join } from "node:path";
import { type Clock, systemClock } from "../base/clock.ts";
import { EnvironmentError, isMissing } from "../base/errors.ts";
import { readTextIfThere } from "../base/files.ts";
import type { RunLayout } from "../run/layout.ts";
import { listIfThere, sweepLeftovers } from "./exclusive.ts";
import { createRecord, keepBeating, rewriteRecord } from "./heartbeat.ts";
import {
  type OwnerIdentity,
  type OwnerRecord,
  parseOwnerRecord,
  relationTo,
} from "./owner-record.ts";
import { accessing, QueueAccessError } from "./queue-error.ts";
import { type Finding, OwnerWatch } from "./verdict.ts";

/** The right to be the only one at something in a run directory. Disposing it lets the next one in at once. */
export interface Hold extends AsyncDisposable {
  /** Aborts, with a FencedError, when the hold could not be renewed. */
  readonly fenced: AbortSignal;
}

/** Somebody else who is not known to be dead. */
export interface Holder {
  readonly record: OwnerRecord;
  readonly relation: "here" | "elsewhere";
  readonly verdict: Finding["verdict"];
}

export interface HoldOptions {
  /** This process; `owner` is what its children carry as EH_OWNER, if it has any. */
  readonly identity: OwnerIdentity;
  readonly clock?: Clock;
  /** Waits before the next look at the holder, or throws to give up. */
  readonly onHeld: (holder: Holder) => Promise<void>;
}

/**
 * Takes the hold whose records lie in `records`. They count up and the highest is the holder's, so of two that find the same
 * holder dead one creates the next record. A holder whose process is gone leaves at once, after its remains were killed.
 * @throws what `onHeld` throws
 */
export async function takeHold(
  layout: RunLayout,
  records: string,
  options: HoldOptions,
): Promise<Hold> {
  const { identity, clock = systemClock, onHeld } = options;
  const watch = new OwnerWatch({ layout, here: identity, clock });
  for (;;) {
    const current = (await numbers(records)).at(-1) ?? 0;
    const holder = join(records, `${current}`);
    if (current > 0 && !(await awaitVacancy(holder, watch, identity, onHeld))) continue;
    const mine = current + 1;
    const path = join(records, `${mine}`);
    if (!(await createRecord(path, identity))) continue;
    const all = await numbers(records);
    if (all.at(-1) !== mine) {
      // This number had been used and removed while we looked.
      await rm(path, { force: true });
      continue;
    }
    for (const n of all) {
      if (n < mine) await rm(join(records, `${n}`), { force: true });
      await sweepLeftovers(records, String(n));
    }
    return keepHold(path, identity, clock);
  }
}

function keepHold(path: string, identity: OwnerIdentity, clock: Clock): Hold {
  const beats = keepBeating(path, { identity, clock });
  let ending: Promise<void> | undefined;
  return {
    fenced: beats.fenced,
    [Symbol.asyncDispose]: () => {
      // The record stays: numbers must never be used again.
      ending ??= beats.stop().then((beat) => endRecord(path, identity, beat + 1));
      return ending;
    },
  };
}

async function endRecord(path: string, identity: OwnerIdentity, beat: number): Promise<void> {
  try {
    await rewriteRecord(path, identity, "ended", beat);
  } catch (error) {
    // Taken over meanwhile.
    if (!isMissing(error)) throw new QueueAccessError("let the next one in", path, error);
  }
}

/** Waits until the holder is dead. @returns false when its record is not there any more: look for the next one. */
async function awaitVacancy(
  path: string,
  watch: OwnerWatch,
  here: OwnerIdentity,
  onHeld: HoldOptions["onHeld"],
): Promise<boolean> {
  for (;;) {
    const { verdict, record } = await watch.examine(path);
    if (verdict === "dead") return true;
    if (record === undefined) return await assertGone(path);
    const relation = relationTo(record, here) === "here" ? "here" : "elsewhere";
    await onHeld({ record, relation, verdict });
  }
}

/** Records appear whole and change in place, so one that can't be read was not written by us. */
async function assertGone(path: string): Promise<false> {
  const text = await accessing("look who is at work", path, () => readTextIfThere(path));
  if (text === undefined || parseOwnerRecord(text) !== undefined) return false;
  throw new EnvironmentError("run.owner-unreadable", `Cannot read who is at work: "${path}"`, {
    hint: "If nobody is at work in this directory, on any machine, remove that file.",
  });
}

async function numbers(records: string): Promise<number[]> {
  const names = await accessing("look who is at work", records, () => listIfThere(records));
  return (names ?? [])
    .filter((name) => /^[1-9]\d*$/.test(name))
    .map(Number)
    .sort((a, b) => a - b);
}
