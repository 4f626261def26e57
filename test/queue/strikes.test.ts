import assert from "node:assert/strict";
import { cp, readdir } from "node:fs/promises";
import { join } from "node:path";
import { describe, test } from "node:test";
import {
  countStrikes,
  foldStrikes,
  readStrikes,
  recordStrike,
  type StrikeRecord,
  StrikeView,
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

test("a strike that was recorded twice counts once", () => {
  assert.equal(countStrikes([strike(1), strike(1), strike(2)]).strikes, 2);
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

test("a view shows what was added, voided and folded since its last look, and does not read again what it knows", async () => {
  await using directory = await temporaryDirectory();
  const layout = new RunLayout(directory.path);
  const view = new StrikeView(layout, unit);
  const look = async () => (await view.read()).get(leaf);
  assert.equal(await look(), undefined);
  await recordStrike(layout, unit, leaf, strike(1));
  assert.equal((await look())?.strikes, 1);
  await recordStrike(layout, unit, leaf, strike(2, true));
  assert.equal((await look())?.isDead, true);
  await foldStrikes(layout, unit);
  assert.equal((await look())?.isDead, true);
  await recordStrike(layout, unit, leaf, voided);
  assert.equal((await look())?.isDead, false);
  await view.read();
  assert.equal(await view.read(), await view.read());
});

describe("folded strikes", () => {
  const other = strikeKey("arc" as LeafId, `fp1:${"cd".repeat(32)}` as Fingerprint);

  async function someStrikes() {
    const directory = await temporaryDirectory();
    const layout = new RunLayout(directory.path);
    for (const n of [1, 2, 3]) await recordStrike(layout, unit, leaf, strike(n));
    await recordStrike(layout, unit, other, strike(1));
    return {
      layout,
      names: async () => (await readdir(layout.strikes(unit))).sort(),
      [Symbol.asyncDispose]: () => directory[Symbol.asyncDispose](),
    };
  }

  test("are one file that says the same", async () => {
    await using at = await someStrikes();
    const before = await readStrikes(at.layout, unit);
    await foldStrikes(at.layout, unit);
    assert.deepEqual(await at.names(), ["folded.1.json"]);
    assert.deepEqual(await readStrikes(at.layout, unit), before);
    await foldStrikes(at.layout, unit);
    assert.deepEqual(await at.names(), ["folded.1.json"], "a second time there is nothing to do");
  });

  test("are counted on: what comes later has the next number, and voids them", async () => {
    await using at = await someStrikes();
    await foldStrikes(at.layout, unit);
    assert.equal(await recordStrike(at.layout, unit, leaf, voided), 4);
    assert.equal((await readStrikes(at.layout, unit)).get(leaf)?.isDead, false);
    await foldStrikes(at.layout, unit);
    assert.deepEqual(await at.names(), ["folded.2.json"]);
    assert.equal(await recordStrike(at.layout, unit, leaf, strike(4)), 5);
    assert.equal((await readStrikes(at.layout, unit)).get(leaf)?.strikes, 1);
  });

  test("count once when their folder was killed before it removed the single ones", async () => {
    await using at = await someStrikes();
    const kept = join(at.layout.directory, "kept");
    await cp(at.layout.strikes(unit), kept, { recursive: true });
    const before = await readStrikes(at.layout, unit);
    await foldStrikes(at.layout, unit);
    await cp(kept, at.layout.strikes(unit), { recursive: true });
    assert.deepEqual(await readStrikes(at.layout, unit), before);
    await foldStrikes(at.layout, unit);
    assert.deepEqual(await at.names(), ["folded.2.json"]);
    assert.deepEqual(await readStrikes(at.layout, unit), before);
  });

  test("lose nothing while several fold, strike and read", async () => {
    await using at = await someStrikes();
    const work = Array.from({ length: 12 }, async (_, n) => {
      if (n % 3 === 0) await foldStrikes(at.layout, unit);
      else await recordStrike(at.layout, unit, leaf, excused(n + 10));
      assert.equal((await readStrikes(at.layout, unit)).get(leaf)?.isDead, true);
    });
    await Promise.all(work);
    await foldStrikes(at.layout, unit);
    assert.equal((await at.names()).length, 1);
    // Three strikes, and one more for eight excused ends.
    const { strikes } = (await readStrikes(at.layout, unit)).get(leaf) ?? {};
    assert.equal(strikes, 4);
  });
});
