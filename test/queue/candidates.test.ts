import assert from "node:assert/strict";
import { test } from "node:test";
import { chooseCandidates } from "../../src/queue/candidates.ts";
import type { BatchState } from "../../src/queue/queue.ts";
import type { BatchId, OwnerId } from "../../src/run/ids.ts";

const ready = (id: string, attempt: number): [BatchId, BatchState] => [
  id as BatchId,
  { kind: "ready", attempt },
];

test("candidates are the ready batches in their order, with those behind that were tried more often", () => {
  const owned: BatchState = { kind: "owned", attempt: 1, owner: "other" as OwnerId };
  const states = [
    ready("failed", 3),
    ready("a", 1),
    ["held" as BatchId, owned] as const,
    ready("b", 2),
    ["done" as BatchId, { kind: "done", attempt: 1 }] as const,
    ready("c", 1),
  ];
  const ids = chooseCandidates(states, 0, 0).map(({ batch }) => batch);
  assert.deepEqual(ids, ["a", "c", "b", "failed"]);
});
