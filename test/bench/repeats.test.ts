import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { interleave, median, summarize } from "../../bench/support/repeats.ts";

describe("repeated measurements", () => {
  test("have the middle value as their median, or the mean of the two in the middle", () => {
    assert.equal(median([9, 1, 5]), 5);
    assert.equal(median([4, 1, 3, 2]), 2.5);
    assert.throws(() => median([]), RangeError);
  });

  test("are kept with their spread and number, rounded", () => {
    assert.deepEqual(summarize([0.12345, 0.5, 0.2], 2), {
      median: 0.2,
      min: 0.12,
      max: 0.5,
      repeats: 3,
    });
  });

  test("take turns after one unmeasured call of each", async () => {
    const calls: string[] = [];
    const figures = [100, 1, 2, 3];
    const measured = await interleave(
      {
        ours: async () => {
          calls.push("ours");
          return figures[calls.length >> 1] as number;
        },
        theirs: async () => {
          calls.push("theirs");
          return 7;
        },
      },
      { repeats: 3 },
    );
    assert.deepEqual(calls, Array.from({ length: 4 }, () => ["ours", "theirs"]).flat());
    assert.deepEqual(measured, {
      ours: { median: 2, min: 1, max: 3, repeats: 3 },
      theirs: { median: 7, min: 7, max: 7, repeats: 3 },
    });
  });
});
