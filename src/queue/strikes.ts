import { stat } from "node:fs/promises";
import * as z from "zod";
import { isMissing } from "../base/errors.ts";
import { FailureClass } from "../lmeval/failure-class.ts";
import { type Fingerprint, type LeafId, shortFingerprint, type UnitId } from "../run/ids.ts";
import type { RunLayout } from "../run/layout.ts";
import {
  appendRecord,
  foldRecords,
  readRecords,
  sinceVoid,
  VoidRecord,
} from "./numbered-records.ts";
import { accessingPatiently } from "./queue-error.ts";

/** Who was evaluating: an attempt is one lease of a batch, known by these three. */
const attempt = {
  owner: z.string(),
  batch: z.string(),
  attempt: z.int().positive(),
};

export const StrikeRecord = z.discriminatedUnion("kind", [
  /** A real failure of the leaf. */
  z.strictObject({
    schema_version: z.literal(1),
    kind: z.literal("strike"),
    class: FailureClass,
    /** Trying again can't help. */
    permanent: z.boolean(),
    message: z.string(),
    trace_tail: z.array(z.string()),
    ...attempt,
    /** ISO 8601, UTC: for people. */
    at: z.string(),
  }),
  /** An attempt that ended during the leaf for a reason that is not the leaf's: time limit, node loss, a broken server. */
  z.strictObject({
    schema_version: z.literal(1),
    kind: z.literal("excused"),
    reason: z.string(),
    ...attempt,
    at: z.string(),
  }),
  VoidRecord,
]);
export type StrikeRecord = z.output<typeof StrikeRecord>;
export type Strike = Extract<StrikeRecord, { kind: "strike" }>;

type Unversioned<T> = T extends unknown ? Omit<T, "schema_version"> : never;

/** Strikes that make a leaf dead. */
export const strikesToDeath = 3;
/** Excused ends of one leaf that count as a strike: a leaf that always outlives its server is no good either. */
export const excusedPerStrike = 5;

/** What the records of a leaf add up to. */
export interface LeafStrikes {
  /** Strikes that count, those made of excused ends included. */
  readonly strikes: number;
  readonly isDead: boolean;
  /** The latest failure, if there was one; a dead leaf may have none, when all its ends were excused. */
  readonly last: Strike | undefined;
}

/** Pure: the records of one leaf, ascending. */
export function countStrikes(records: readonly StrikeRecord[]): LeafStrikes {
  const counted = sinceVoid(records);
  // A record may be there twice, where the file system reported one as failed that it had made.
  const failures = counted.filter((record) => record.kind === "strike");
  const strikes = [...new Map(failures.map((record) => [attemptKey(record), record])).values()];
  // Several may have reported the end of the same attempt; one that failed has its strike.
  const failed = new Set(strikes.map(attemptKey));
  const excused = new Set(
    counted
      .filter((record) => record.kind === "excused")
      .map(attemptKey)
      .filter((key) => !failed.has(key)),
  );
  const total = strikes.length + Math.floor(excused.size / excusedPerStrike);
  const isDead = total >= strikesToDeath || strikes.some(({ permanent }) => permanent);
  return { strikes: total, isDead, last: strikes.at(-1) };
}

function attemptKey(record: { owner: string; batch: string; attempt: number }): string {
  return `${record.owner} ${record.batch} ${record.attempt}`;
}

/** Which leaf a record is about: `{leaf id}.{fp12}`. */
export type StrikeKey = string & { readonly __brand: "StrikeKey" };

export function strikeKey(leaf: LeafId, fingerprint: Fingerprint): StrikeKey {
  return `${leaf}.${shortFingerprint(fingerprint)}` as StrikeKey;
}

/** Records a strike, an excused end, or a person's command that voids both. @returns the record's number. */
export async function recordStrike(
  layout: RunLayout,
  unit: UnitId,
  leaf: StrikeKey,
  record: Unversioned<StrikeRecord>,
): Promise<number> {
  const whole = StrikeRecord.parse({ schema_version: 1, ...record });
  return await appendRecord(layout.strikes(unit), leaf, `${JSON.stringify(whole, undefined, 1)}\n`);
}

/** Puts the records of a unit, whose leaves are all settled, into one file. They count as before. */
export async function foldStrikes(layout: RunLayout, unit: UnitId): Promise<void> {
  await foldRecords(layout.strikes(unit));
}

/**
 * As `readStrikes`, for whoever asks again and again: one stat as long as nothing was added. It may be late by what a
 * network file system remembers of the directory, which costs a leaf a try that it should not have had.
 */
export class StrikeView {
  readonly #layout: RunLayout;
  readonly #unit: UnitId;
  /** `isSure`: read twice under one mark. What is added in one tick of the file system's clock leaves the same mark. */
  #seen: {
    readonly mark: string | undefined;
    readonly strikes: ReadonlyMap<StrikeKey, LeafStrikes>;
    readonly isSure: boolean;
  } = { mark: undefined, strikes: new Map(), isSure: true };

  constructor(layout: RunLayout, unit: UnitId) {
    this.#layout = layout;
    this.#unit = unit;
  }

  async read(): Promise<ReadonlyMap<StrikeKey, LeafStrikes>> {
    const mark = await this.#mark();
    const isKnown = mark === this.#seen.mark;
    if (!isKnown || !this.#seen.isSure) {
      const strikes = await readStrikes(this.#layout, this.#unit);
      this.#seen = { mark, strikes, isSure: isKnown };
    }
    return this.#seen.strikes;
  }

  /** Changes with each record; undefined while there is none. */
  async #mark(): Promise<string | undefined> {
    const directory = this.#layout.strikes(this.#unit);
    return await accessingPatiently("read records", directory, async () => {
      const found = await stat(directory, { bigint: true }).catch((error: unknown) => {
        if (isMissing(error)) return undefined;
        throw error;
      });
      return found === undefined ? undefined : `${found.ino} ${found.mtimeNs}`;
    });
  }
}

/** What every leaf of the unit has against it; leaves without records are left out. One readdir, and one read per record. */
export async function readStrikes(
  layout: RunLayout,
  unit: UnitId,
): Promise<ReadonlyMap<StrikeKey, LeafStrikes>> {
  const records = await readRecords(layout.strikes(unit));
  const bySeries = Map.groupBy(records, ({ series }) => series as StrikeKey);
  return new Map(
    [...bySeries].map(([key, series]) => [
      key,
      countStrikes(series.map(({ text }) => StrikeRecord.parse(JSON.parse(text)))),
    ]),
  );
}
