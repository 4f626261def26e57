import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { codeFrame, positionOf } from "../../src/config/code-frame.ts";

function frameOf(text: string, marked: string): string[] {
  const start = text.indexOf(marked);
  return codeFrame(text, { start, end: start + marked.length }).split("\n");
}

describe("a code frame", () => {
  test("shows the line before, the line, and carets below the place", () => {
    assert.deepEqual(frameOf("a: 1\nbc: wrong\nd: 2\n", "wrong"), [
      "  1 | a: 1",
      "  2 | bc: wrong",
      "    |     ^^^^^",
    ]);
  });

  test("leaves out a blank line before, and aligns numbers of different length", () => {
    assert.deepEqual(frameOf("\nkey: x\n", "key"), ["  2 | key: x", "    | ^^^"]);
    const text = `${"a: 1\n".repeat(9)}b: 2\n`;
    assert.deepEqual(frameOf(text, "b"), ["   9 | a: 1", "  10 | b: 2", "     | ^"]);
  });

  test("marks no more than the rest of the line, of a value that has several", () => {
    assert.deepEqual(frameOf("a: [1,\n  2]\n", "[1,\n  2]"), ["  1 | a: [1,", "    |    ^^^"]);
  });

  test("cuts a long line around the place", () => {
    const rows = frameOf(`key: ${"x".repeat(500)} HERE ${"y".repeat(500)}\n`, "HERE");
    assert.equal(rows.length, 2);
    const column = rows[1]?.indexOf("^") ?? 0;
    assert.equal(rows[0]?.slice(column, column + 4), "HERE");
    assert.ok(rows.every((row) => row.length < 120));
  });

  test("shows tabs, carriage returns and control characters as something that moves no cursor", () => {
    assert.deepEqual(frameOf("a:\tb\u001b[2J\r\n", "b"), ["  1 | a: b\ufffd[2J", "    |    ^"]);
  });

  test("has its first caret below the place, wherever that is", () => {
    fc.assert(
      fc.property(
        fc.string({ unit: fc.constantFrom(..."abc: -\n"), minLength: 1, maxLength: 400 }),
        fc.nat(),
        (text, at) => {
          const start = at % text.length;
          if (text[start] === "\n") return;
          const rows = codeFrame(text, { start, end: start + 1 }).split("\n");
          const column = rows.at(-1)?.indexOf("^") ?? -1;
          assert.equal((rows.at(-2) ?? "").padEnd(column + 1)[column], text[start]);
        },
      ),
    );
  });
});

test("a position counts lines and columns from 1", () => {
  const text = "ab\n\ncd";
  assert.deepEqual(positionOf(text, 0), { line: 1, column: 1 });
  assert.deepEqual(positionOf(text, 2), { line: 1, column: 3 });
  assert.deepEqual(positionOf(text, 3), { line: 2, column: 1 });
  assert.deepEqual(positionOf(text, 5), { line: 3, column: 2 });
});
