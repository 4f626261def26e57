import assert from "node:assert/strict";
import { test } from "node:test";
import {
  countStrikes,
  readStrikes,
  recordStrike,
  type StrikeRecord,
  strikeKey,
} from "../../src/queue/strikes.ts";
import type { Fingerprint, LeafId, UnitId } from "../../src/run/ids.ts";
import { RunLayout } from "../../src/run/layout.ts";
import { temporaryDirectory } from "../support/temporary.ts";

const at = "2026-01-01T00:00:00Z";
const unit = "model--main" as UnitId;
const leaf = strikeKey("arc.easy~0a1b2c" as LeafId, `fp1:${"ab".repeat(32)}` as Fingerprint);

function strike(attempt: number, permanent = false): StrikeRecord {
  return {
    schema_version: 1,
    kind: "strike",
    class: "metric",
    permanent,
    message: `failure ${attempt}`,
    trace_tail: [],
    owner: "o1",
    batch: "b1",
    attempt,
    at,
  };
}

function excused(attempt: number, owner = "o1"): StrikeRecord {
  return {
    schema_version: 1,
    kind: "excused",
    reason: "time-limit",
    owner,
    batch: "b1",
    attempt,
    at,
  };
}

const voided: StrikeRecord = { schema_version: 1, kind: "void", command: "requeue", at };

test("three strikes, or a permanent failure, make a leaf dead", () => {
  const count = (...records: StrikeRecord[]) => countStrikes(records);
  assert.deepEqual(count(), { strikes: 0, isDead: false, last: undefined });
  assert.equal(count(strike(1), strike(2)).isDead, false);
  assert.equal(count(strike(1), strike(2), strike(3)).isDead, true);
  assert.equal(count(strike(1, true)).isDead, true);
  const last = count(strike(1), strike(2)).last;
  assert.equal(last?.message, "failure 2");
});

test("five attempts that end without a strike are one, however often they were reported", () => {
  const ends = [1, 2, 3, 4, 5].map((attempt) => excused(attempt));
  assert.equal(countStrikes(ends.slice(1)).strikes, 0);
  assert.equal(countStrikes([...ends.slice(1), ...ends.slice(1)]).strikes, 0);
  assert.equal(countStrikes(ends).strikes, 1);
  assert.equal(countStrikes([...ends.slice(1), excused(5, "o2")]).strikes, 1);
  assert.equal(
    countStrikes([...ends.slice(1), strike(1), excused(1)]).strikes,
    1,
    "its strike counts alone",
  );
});

test("a requeue voids what came before it, by number", () => {
  const dead = [strike(1), strike(2), strike(3)];
  assert.deepEqual(countStrikes([...dead, voided]), { strikes: 0, isDead: false, last: undefined });
  assert.equal(countStrikes([...dead, voided, strike(4)]).strikes, 1);
});

test("writers of the same leaf at the same time each leave a record", async () => {
  await using directory = await temporaryDirectory();
  const layout = new RunLayout(directory.path);
  assert.equal((await readStrikes(layout, unit)).size, 0);
  const numbers = await Promise.all(
    Array.from({ length: 6 }, (_, attempt) =>
      recordStrike(layout, unit, leaf, excused(attempt + 1)),
    ),
  );
  assert.deepEqual(
    numbers.sort((a, b) => a - b),
    [1, 2, 3, 4, 5, 6],
  );
  const other = strikeKey("arc" as LeafId, `fp1:${"cd".repeat(32)}` as Fingerprint);
  await recordStrike(layout, unit, other, strike(1, true));
  const strikes = await readStrikes(layout, unit);
  assert.deepEqual([...strikes.keys()].sort(), [other, leaf].sort());
  assert.equal(strikes.get(leaf)?.strikes, 1);
  assert.equal(strikes.get(other)?.isDead, true);
  assert.equal(await recordStrike(layout, unit, leaf, voided), 7);
  assert.equal((await readStrikes(layout, unit)).get(leaf)?.strikes, 0);
});
