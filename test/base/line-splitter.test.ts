import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { LineSplitter } from "../../src/base/line-splitter.ts";

test("text makes the same lines however it is cut; what has not ended is none", () => {
  const text = fc.array(fc.constantFrom("a", "é", "\r\n", "\n", "bc"));
  fc.assert(
    fc.property(text, fc.array(fc.nat(20)), (parts, cuts) => {
      const whole = parts.join("");
      const splitter = new LineSplitter();
      const lines: string[] = [];
      let at = 0;
      for (const length of cuts) {
        lines.push(...splitter.push(whole.slice(at, at + length)));
        at += length;
      }
      lines.push(...splitter.push(whole.slice(at)));
      assert.deepEqual(lines, whole.split(/\r?\n/).slice(0, -1));
    }),
  );
});
