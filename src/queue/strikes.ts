import { z } from "zod";
import { FailureClass } from "../lmeval/protocol.ts";
import { type Fingerprint, type LeafId, shortFingerprint, type UnitId } from "../run/ids.ts";
import type { RunLayout } from "../run/layout.ts";
import { appendRecord, readRecords } from "./numbered-records.ts";

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
  /** A person's command: what has a lower number does not count any more. */
  z.strictObject({
    schema_version: z.literal(1),
    kind: z.literal("void"),
    command: z.string(),
    at: z.string(),
  }),
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
  const counted = records.slice(records.findLastIndex(({ kind }) => kind === "void") + 1);
  const strikes = counted.filter((record) => record.kind === "strike");
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
