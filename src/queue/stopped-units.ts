import * as z from "zod";
import type { UnitId } from "../run/ids.ts";
import type { RunLayout } from "../run/layout.ts";
import { appendRecord, readRecords, sinceVoid, VoidRecord } from "./numbered-records.ts";

export const UnitRecord = z.discriminatedUnion("kind", [
  /** An agent gave the unit up: different leaves failed alike, or the servers crash-loop. */
  z.strictObject({
    schema_version: z.literal(1),
    kind: z.literal("failed"),
    reason: z.string(),
    class: z.string(),
    owner: z.string(),
    /** ISO 8601, UTC: for people. */
    at: z.string(),
  }),
  VoidRecord,
]);
export type UnitRecord = z.output<typeof UnitRecord>;
export type UnitFailure = Extract<UnitRecord, { kind: "failed" }>;

/** Failures after which a unit waits for a person. */
export const failuresToWait = 2;

/** Why a unit is not worked on. A unit without failures that count is not in the map. */
export interface StoppedUnit {
  /** That count, ascending: at least one. */
  readonly failures: readonly UnitFailure[];
  /** True: nobody tries again before a person says so. */
  readonly waitsForPerson: boolean;
}

/** Pure: the records of one unit, ascending. */
export function countFailures(records: readonly UnitRecord[]): StoppedUnit | undefined {
  const failures = sinceVoid(records).filter((record) => record.kind === "failed");
  if (failures.length === 0) return undefined;
  return { failures, waitsForPerson: failures.length >= failuresToWait };
}

/** Records that the unit was given up. @returns the record's number. */
export async function recordUnitFailure(
  layout: RunLayout,
  unit: UnitId,
  failure: Omit<UnitFailure, "schema_version" | "kind">,
): Promise<number> {
  return await append(layout, unit, { schema_version: 1, kind: "failed", ...failure });
}

/** Lets stopped units be tried again, because a person typed `command`: those given, or all. @returns those that were stopped. */
export async function voidUnitFailures(
  layout: RunLayout,
  command: string,
  at: string,
  units?: ReadonlySet<UnitId>,
): Promise<UnitId[]> {
  const stopped = [...(await readStoppedUnits(layout)).keys()].filter(
    (unit) => units === undefined || units.has(unit),
  );
  for (const unit of stopped) {
    await append(layout, unit, { schema_version: 1, kind: "void", command, at });
  }
  return stopped;
}

/** Units that were given up and not freed since. */
export async function readStoppedUnits(
  layout: RunLayout,
): Promise<ReadonlyMap<UnitId, StoppedUnit>> {
  const records = await readRecords(layout.stoppedUnits);
  const stopped = new Map<UnitId, StoppedUnit>();
  for (const [unit, series] of Map.groupBy(records, (record) => record.series as UnitId)) {
    const state = countFailures(series.map(({ text }) => UnitRecord.parse(JSON.parse(text))));
    if (state !== undefined) stopped.set(unit, state);
  }
  return stopped;
}

async function append(layout: RunLayout, unit: UnitId, record: UnitRecord): Promise<number> {
  const text = `${JSON.stringify(record, undefined, 1)}\n`;
  return await appendRecord(layout.stoppedUnits, unit, text, ".json");
}
