import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import {
  canonicalJson,
  parseExactJson,
  parsePythonJson,
  stringifyJson,
} from "../../src/base/json.ts";

describe("parsePythonJson", () => {
  test("reads the bare words that Python writes for numbers that are not finite", () => {
    assert.deepEqual(parsePythonJson('{"a": NaN, "b": [Infinity, -Infinity], "c": 1}'), {
      a: Number.NaN,
      b: [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY],
      c: 1,
    });
  });

  test("leaves the same words alone inside strings and keys", () => {
    assert.deepEqual(parsePythonJson('{"NaN": "is \\"NaN\\", Infinity", "x": NaN}'), {
      NaN: 'is "NaN", Infinity',
      x: Number.NaN,
    });
  });

  test("gives back any value, with non-finite numbers anywhere", () => {
    const value = fc.letrec((tie) => ({
      value: fc.oneof(
        { depthSize: "small" },
        fc.double(),
        fc.string({ unit: "binary" }),
        fc.constantFrom("NaN", '"NaN', "\\Infinity"),
        fc.array(tie("value"), { maxLength: 4 }),
        fc.dictionary(fc.constantFrom("a", "NaN", '"'), tie("value"), { noNullPrototype: true }),
      ),
    })).value;
    fc.assert(
      fc.property(value, (original) => {
        assert.deepEqual(parsePythonJson(pythonJson(original)), original);
      }),
    );
  });

  test("refuses what is not JSON in Python either", () => {
    assert.throws(() => parsePythonJson('{"a": Nan}'), SyntaxError);
    assert.throws(() => parsePythonJson('{"a": NaN'), SyntaxError);
  });
});

/** As json.dumps prints; -0 has no place in these tests' equality. */
function pythonJson(value: unknown): string {
  if (typeof value === "number") return Object.is(value, -0) ? "-0.0" : String(value);
  if (Array.isArray(value)) return `[${value.map(pythonJson).join(", ")}]`;
  if (value !== null && typeof value === "object") {
    const members = Object.entries(value).map(([k, v]) => `${JSON.stringify(k)}: ${pythonJson(v)}`);
    return `{${members.join(", ")}}`;
  }
  return JSON.stringify(value);
}

describe("stringifyJson", () => {
  test("prints integers beyond 2^53 digit by digit", () => {
    assert.equal(stringifyJson({ tokens: 2n ** 60n + 1n }), '{"tokens":1152921504606846977}');
  });
});

describe("canonicalJson", () => {
  test("is one text per value, whatever the order of keys", () => {
    assert.equal(
      canonicalJson({ b: [1, { d: null, c: "x" }], a: true }),
      '{"a":true,"b":[1,{"c":"x","d":null}]}',
    );
  });
});

test("integers beyond 2^53 come back exact from JSON, and all else as JSON.parse has it", () => {
  assert.deepEqual(
    parseExactJson(
      '{"a": [9007199254740993, -9007199254740993, 9007199254740991], "b": "12345678901234567890", "c": 0.12345678901234566, "d": 1e300}',
    ),
    {
      a: [9007199254740993n, -9007199254740993n, 9007199254740991],
      b: "12345678901234567890",
      c: 0.12345678901234566,
      d: 1e300,
    },
  );
  const value = fc.letrec((tie) => ({
    any: fc.oneof(
      { maxDepth: 3 },
      fc.string(),
      fc.maxSafeInteger(),
      fc.bigInt().filter((n) => !Number.isSafeInteger(Number(n))),
      fc.array(tie("any")),
      fc.dictionary(fc.string(), tie("any"), { noNullPrototype: true }),
    ),
  })).any;
  fc.assert(
    fc.property(value, (one) => {
      assert.deepEqual(parseExactJson(stringifyJson(one)), one);
    }),
  );
});
