import assert from "node:assert/strict";
import { test } from "node:test";
import {
  readStoppedUnits,
  recordUnitFailure,
  voidUnitFailures,
} from "../../src/queue/stopped-units.ts";
import type { UnitId } from "../../src/run/ids.ts";
import { RunLayout } from "../../src/run/layout.ts";
import { temporaryDirectory } from "../support/temporary.ts";

const at = "2026-01-01T00:00:00Z";
const failure = { reason: "4 leaves failed alike", class: "missing-module", owner: "o1", at };
const [one, two] = ["model--step10", "model--main"] as UnitId[] as [UnitId, UnitId];

test("a unit stops, waits for a person after the second failure, and goes on at that person's command", async () => {
  await using directory = await temporaryDirectory();
  const layout = new RunLayout(directory.path);
  assert.equal((await readStoppedUnits(layout)).size, 0);
  await recordUnitFailure(layout, one, failure);
  assert.equal((await readStoppedUnits(layout)).get(one)?.waitsForPerson, false);
  await recordUnitFailure(layout, one, { ...failure, reason: "again" });
  await recordUnitFailure(layout, two, failure);
  const stopped = await readStoppedUnits(layout);
  assert.equal(stopped.get(one)?.waitsForPerson, true);
  assert.deepEqual(
    stopped.get(one)?.failures.map(({ reason }) => reason),
    ["4 leaves failed alike", "again"],
  );
  assert.deepEqual(await voidUnitFailures(layout, "requeue", at, new Set([one])), [one]);
  assert.deepEqual([...(await readStoppedUnits(layout)).keys()], [two]);
  assert.deepEqual(await voidUnitFailures(layout, "run", at), [two]);
  assert.deepEqual(await voidUnitFailures(layout, "run", at), []);
  await recordUnitFailure(layout, one, failure);
  const again = (await readStoppedUnits(layout)).get(one);
  assert.deepEqual([again?.failures.length, again?.waitsForPerson], [1, false]);
});
