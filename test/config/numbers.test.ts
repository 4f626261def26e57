import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { add, multiply, parseIntegerValue, parseTokens } from "../../src/config/quantities.ts";

describe("an integer as the original accepts it", () => {
  test("is an integer, a whole float, integer text, or true as 1", () => {
    for (const [value, expected] of [
      [5n, 5],
      [-5n, -5],
      [12.0, 12],
      ["12", 12],
      [" 12 ", 12],
      ["+12", 12],
      ["-12", -12],
      ["1_000", 1_000],
      ["12.0", 12],
      [true, 1],
      [false, 0],
      [9_007_199_254_740_993n, 9_007_199_254_740_993n],
      ["9007199254740993", 9_007_199_254_740_993n],
      [1e300, BigInt(1e300)],
    ] as const) {
      assert.equal(parseIntegerValue(value), expected, String(value));
    }
  });

  test("is nothing else", () => {
    for (const value of [
      1.5,
      Number.NaN,
      Number.POSITIVE_INFINITY,
      "",
      "1.5",
      "1e3",
      "0x10",
      "_1",
      "1__0",
      null,
      [],
      {},
    ]) {
      assert.equal(parseIntegerValue(value), undefined, String(value));
    }
  });

  test("stays exact, whatever its size and spelling", () => {
    fc.assert(
      fc.property(fc.bigInt(), (value) => {
        assert.equal(BigInt(parseIntegerValue(value) ?? "none"), value);
        assert.equal(BigInt(parseIntegerValue(String(value)) ?? "none"), value);
      }),
    );
  });

  test("is a number up to 2^53 and a bigint beyond, after sums and products too", () => {
    fc.assert(
      fc.property(fc.bigInt(), fc.bigInt(), (a, b) => {
        for (const [result, exact] of [
          [add(a, b), a + b],
          [multiply(a, b), a * b],
        ] as const) {
          assert.equal(BigInt(result), exact);
          assert.equal(typeof result === "number", Number.isSafeInteger(Number(exact)));
        }
      }),
    );
  });
});

describe("a number of tokens", () => {
  test("is an integer, a float that is cut, or text with K, M, B or T", () => {
    for (const [value, expected] of [
      [2.5, 2],
      [-0.5, 0],
      ["100B", 100_000_000_000],
      ["100b", 100_000_000_000],
      ["1.5T", 1_500_000_000_000],
      ["500M", 500_000_000],
      ["10K", 10_000],
      [" 10 K ", 10_000],
      ["12", 12],
      ["0.0005K", 0],
      ["0.0015K", 2],
      ["0.0025K", 2],
      ["0.0007K", 1],
      ["1.1B", 1_100_000_000],
      ["1.7", 2],
      [true, 1],
      ["9007199254740993", 9_007_199_254_740_993n],
    ] as const) {
      assert.equal(parseTokens(value), expected, String(value));
    }
  });

  test("is nothing else", () => {
    for (const value of [
      "1.5e12",
      "B",
      "1G",
      "K1",
      "1 B B",
      "",
      Number.NaN,
      Number.POSITIVE_INFINITY,
      null,
      [],
    ]) {
      assert.equal(parseTokens(value), undefined, String(value));
    }
  });

  test("grows by thousands from suffix to suffix", () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 9_000 }), (n) => {
        const sizes = ["", "K", "M", "B", "T"].map((suffix) => parseTokens(`${n}${suffix}`));
        assert.deepEqual(
          sizes,
          [1, 1e3, 1e6, 1e9, 1e12].map((unit) => n * unit),
        );
      }),
    );
  });
});
