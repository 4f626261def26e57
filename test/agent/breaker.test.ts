import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { Breaker } from "../../src/agent/breaker.ts";
import type { FailureClass } from "../../src/lmeval/failure-class.ts";
import { leafAt } from "../support/synthetic-run.ts";

/** Fails leaves `from` to `to`, one after another. @returns the leaf that was one too many. */
function failLeaves(
  breaker: Breaker,
  from: number,
  to: number,
  kind: FailureClass,
): number | undefined {
  for (let n = from; n <= to; n++) {
    if (breaker.failed(leafAt(n), kind, "why") !== undefined) return n;
  }
  return undefined;
}

describe("the breaker", () => {
  test("trips at the fifth different leaf in a row, later with more than eight slots", () => {
    for (const [slots, last] of [
      [1, 4],
      [8, 4],
      [9, 5],
      [16, 8],
    ] as const) {
      const breaker = new Breaker({ slots, proven: false });
      assert.equal(failLeaves(breaker, 0, 20, "requests"), last, `${slots} slots`);
    }
  });

  test("names the leaves and the last reason", () => {
    const breaker = new Breaker({ slots: 1, proven: false });
    failLeaves(breaker, 0, 3, "load");
    assert.deepEqual(breaker.failed(leafAt(4), "load", "no such file"), {
      class: "load",
      leaves: [0, 1, 2, 3, 4].map(leafAt),
      reason: '5 different tasks failed in a row with "load": no such file',
    });
  });

  test("counts a leaf once, however often it fails", () => {
    const breaker = new Breaker({ slots: 1, proven: false });
    for (let n = 0; n < 10; n++) assert.equal(failLeaves(breaker, 0, 3, "requests"), undefined);
  });

  test("begins anew with a success, or a failure of another class", () => {
    const breaker = new Breaker({ slots: 1, proven: false });
    assert.equal(failLeaves(breaker, 0, 3, "requests"), undefined);
    breaker.succeeded();
    assert.equal(failLeaves(breaker, 4, 7, "requests"), undefined);
    assert.equal(breaker.failed(leafAt(8), "memory", "why"), undefined);
    assert.equal(failLeaves(breaker, 9, 12, "requests"), undefined);
    assert.equal(failLeaves(breaker, 13, 13, "requests"), 13);
  });

  test("leaves to their strikes what lies in the leaves, once one of the unit has succeeded", () => {
    for (const proven of [true, false]) {
      const breaker = new Breaker({ slots: 1, proven });
      if (!proven) breaker.succeeded();
      assert.equal(failLeaves(breaker, 0, 30, "missing-module"), undefined);
      assert.equal(failLeaves(breaker, 0, 30, "metric"), undefined);
      assert.equal(failLeaves(breaker, 0, 30, "requests"), 4);
    }
  });
});
