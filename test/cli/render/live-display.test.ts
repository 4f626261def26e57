import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { LiveDisplay } from "../../../src/cli/render/live-display.ts";

/** A screen that obeys the few escapes that the display uses; any other one fails. */
function screen(columns: number, rows: number) {
  const lines: string[] = [""];
  let row = 0;
  let cursor = true;
  let bytes = 0;
  const obey = (sequence: string): void => {
    const up = /^\[(\d+)A$/.exec(sequence)?.[1];
    if (up !== undefined) row -= Number(up);
    else if (sequence === "[2K") lines[row] = "";
    else if (sequence === "[J") lines.length = row + 1;
    else if (sequence === "[?25l") cursor = false;
    else if (sequence === "[?25h") cursor = true;
    else assert.match(sequence, /^\[\?2026[hl]$/);
    assert.ok(row >= 0, "the cursor leaves the screen");
    if (sequence === "[J") lines[row] = "";
  };
  return {
    columns,
    rows,
    lines,
    get cursor() {
      return cursor;
    },
    get bytes() {
      return bytes;
    },
    write(text: string) {
      bytes += text.length;
      // biome-ignore lint/suspicious/noControlCharactersInRegex: that is what a terminal looks for
      for (const part of text.matchAll(/\u001b(\[[?\d]*[A-Za-z])|\n|\r|[^\u001b\n\r]+/g)) {
        if (part[1] !== undefined) obey(part[1]);
        else if (part[0] === "\n") {
          row += 1;
          lines[row] ??= "";
        } else if (part[0] !== "\r") {
          assert.ok([...part[0]].length <= columns || part[0].startsWith("eval-hive"), part[0]);
          lines[row] = part[0];
        }
      }
    },
  };
}

describe("a live display", () => {
  test("redraws its lines in place, and takes away those that are gone", () => {
    const terminal = screen(40, 24);
    using display = new LiveDisplay(terminal);
    display.show(["one", "two", "three"]);
    display.show(["one", "2"]);
    assert.deepEqual(terminal.lines, ["one", "2", ""]);
    display.show(["1", "2", "3", "4"]);
    assert.deepEqual(terminal.lines, ["1", "2", "3", "4", ""]);
  });

  test("writes nothing when nothing has changed, and little when little has", () => {
    const terminal = screen(80, 24);
    using display = new LiveDisplay(terminal);
    const lines = Array.from({ length: 20 }, (_, n) => `line ${n} ${"x".repeat(60)}`);
    display.show(lines);
    const whole = terminal.bytes;
    display.show([...lines]);
    assert.equal(terminal.bytes, whole);
    display.show(lines.with(7, "changed"));
    assert.ok(terminal.bytes - whole < whole / 5);
  });

  test("lets messages scroll by above", () => {
    const terminal = screen(40, 24);
    using display = new LiveDisplay(terminal);
    display.show(["table", "rows"]);
    display.say("eval-hive: a message");
    display.say("eval-hive: another");
    assert.deepEqual(terminal.lines, [
      "eval-hive: a message",
      "eval-hive: another",
      "table",
      "rows",
      "",
    ]);
  });

  test("stays within the screen: lines are cut, and one row is left for the cursor", () => {
    const terminal = screen(10, 4);
    using display = new LiveDisplay(terminal);
    display.show(["█".repeat(30), "b", "c", "d", "e"]);
    assert.deepEqual(terminal.lines, ["█".repeat(10), "b", "c", ""]);
  });

  test("takes 80 columns and 24 rows for a terminal without a size", () => {
    const terminal = screen(0, 0);
    const display = new LiveDisplay({ ...terminal, write: (text) => shown.push(text) });
    const shown: string[] = [];
    display.show(["x".repeat(100)]);
    assert.ok(shown.join("").includes("x".repeat(80)));
    assert.ok(!shown.join("").includes("x".repeat(81)));
    assert.equal(display.height, 23);
  });

  test("hides the cursor only while it is shown", () => {
    const terminal = screen(40, 24);
    {
      using display = new LiveDisplay(terminal);
      assert.equal(terminal.cursor, true);
      display.show(["a"]);
      assert.equal(terminal.cursor, false);
    }
    assert.equal(terminal.cursor, true);
    assert.deepEqual(terminal.lines, ["a", ""]);
  });
});
