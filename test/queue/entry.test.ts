import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { chooseCandidates } from "../../src/queue/candidates.ts";
import { type Entry, entryName, isLater, parseEntryName } from "../../src/queue/entry.ts";
import type { BatchState } from "../../src/queue/queue.ts";
import type { BatchId, OwnerId } from "../../src/run/ids.ts";

const batchId = fc.stringMatching(/^[a-z0-9-]{1,40}$/) as fc.Arbitrary<BatchId>;
const ownerId = fc.stringMatching(/^[a-z0-9-]{1,60}$/) as fc.Arbitrary<OwnerId>;
const attempt = fc.integer({ min: 1, max: 1_000_000 });
const plain = { noNullPrototype: true };
const state: fc.Arbitrary<BatchState> = fc.oneof(
  fc.record({ kind: fc.constant("ready" as const), attempt }, plain),
  fc.record({ kind: fc.constant("owned" as const), attempt, owner: ownerId }, plain),
  fc.record({ kind: fc.constant("done" as const), attempt }, plain),
);
const entry: fc.Arbitrary<Entry> = fc.record({ batch: batchId, state }, plain);

test("an entry's name says all of it, in a length that every file system takes", () => {
  fc.assert(
    fc.property(entry, (one) => {
      const name = entryName(one);
      assert.deepEqual(parseEntryName(name), one);
      assert.ok(Buffer.byteLength(name) < 130);
    }),
  );
});

test("a name that is no entry is none", () => {
  for (const name of [
    ".nfs00",
    "b1",
    "b1.a1",
    "b1.a0.r",
    "b1.a1.x",
    "b1.a1.o.",
    "B.a1.r",
    "folded.json",
  ]) {
    assert.equal(parseEntryName(name), undefined, name);
  }
});

test("of two states of a batch, the one further along its way is later", () => {
  const way: BatchState[] = [
    { kind: "ready", attempt: 1 },
    { kind: "owned", attempt: 1, owner: "z" as OwnerId },
    { kind: "ready", attempt: 2 },
    { kind: "owned", attempt: 2, owner: "a" as OwnerId },
    { kind: "done", attempt: 2 },
  ];
  way.forEach((a, i) => {
    way.forEach((b, j) => {
      assert.equal(isLater(a, b), i > j);
    });
  });
});

function readyStates(count: number): [BatchId, BatchState][] {
  return Array.from({ length: count }, (_, n) => [
    `b${n}` as BatchId,
    { kind: "ready", attempt: 1 },
  ]);
}

test("candidates are ready, distinct, and there whenever a batch is ready", () => {
  const crowd = fc.nat(100);
  const random = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true });
  fc.assert(
    fc.property(fc.array(state, { maxLength: 300 }), crowd, random, (states, others, at) => {
      const all = states.map((one, n) => [`b${n}` as BatchId, one] as const);
      const ready = all.filter(([, { kind }]) => kind === "ready").map(([id]) => id);
      const chosen = chooseCandidates(all, others, at).map(({ batch }) => batch);
      assert.equal(chosen.length > 0, ready.length > 0);
      assert.ok(chosen.every((id) => ready.includes(id)));
      assert.equal(new Set(chosen).size, chosen.length);
    }),
  );
});

test("alone, the longest batches come first; in a crowd, they are among the first", () => {
  const names = (count: number, crowd: number, at: number) =>
    chooseCandidates(readyStates(count), crowd, at).map(({ batch }) => batch);
  assert.deepEqual(names(100, 0, 0.9).slice(0, 3), ["b0", "b1", "b2"]);
  assert.deepEqual(names(100, 3, 0).slice(0, 3), ["b0", "b1", "b2"]);
  assert.ok(names(100_000, 3, 0.99).every((id) => Number(id.slice(1)) < 32 * 8 * 4));
});
