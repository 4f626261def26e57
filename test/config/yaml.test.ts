import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { parsePlainScalar } from "../../src/config/plain-scalar.ts";
import { parseYaml } from "../../src/config/source.ts";

function contentOf(text: string): unknown {
  const { value, mistakes } = parseYaml("c.yaml", text);
  assert.deepEqual(mistakes, []);
  return value;
}

function mistakesOf(text: string): string[] {
  return parseYaml("c.yaml", text).mistakes.map(
    ({ line, column, message }) => `${line}:${column} ${message}`,
  );
}

describe("an unquoted scalar of YAML 1.1", () => {
  const meanings: readonly (readonly [text: string, value: unknown])[] = [
    ["010", 8n],
    ["-010", -8n],
    ["08", "08"],
    ["0o10", "0o10"],
    ["0x10", 16n],
    ["0xFf", 255n],
    ["0b101", 5n],
    ["1:30", 90n],
    ["24:00:00", 86_400n],
    ["1:60", "1:60"],
    ["1:30.5", 90.5],
    ["2_097_152", 2_097_152n],
    ["12345678901234567890", 12_345_678_901_234_567_890n],
    ["1.0", 1],
    ["1.", 1],
    [".5", 0.5],
    ["1.5e12", "1.5e12"],
    ["1.5e+12", 1.5e12],
    ["1e3", "1e3"],
    ["-.inf", Number.NEGATIVE_INFINITY],
    [".NaN", Number.NaN],
    ["yes", true],
    ["No", false],
    ["ON", true],
    ["off", false],
    ["y", "y"],
    ["tRue", "tRue"],
    ["~", null],
    ["null", null],
    ["", null],
    ["nil", "nil"],
    ["2024-01-01", "2024-01-01"],
    ["0x_", "0x_"],
    ["step_100", "step_100"],
  ];
  for (const [text, value] of meanings) {
    test(`"${text}" is ${typeof value} ${String(value)}`, () => {
      assert.deepEqual(parsePlainScalar(text), value);
    });
  }

  test("is itself again when an integer is written down", () => {
    fc.assert(
      fc.property(fc.bigInt(), (value) => {
        assert.equal(parsePlainScalar(String(value)), value);
        assert.equal(contentOf(String(value)), value);
      }),
    );
  });

  test("is text in quotes, whatever it looks like", () => {
    fc.assert(
      fc.property(
        fc.oneof(fc.string(), fc.constantFrom(...meanings.map(([text]) => text))),
        (text) => {
          assert.equal(contentOf(JSON.stringify(text).replaceAll("\u007f", "\\x7f")), text);
        },
      ),
    );
  });

  test("has the type of its tag, if it can", () => {
    assert.deepEqual(contentOf('[!!str 5, !!int "5", !!float 5, !!bool "yes", !!null ""]'), [
      "5",
      5n,
      5,
      true,
      null,
    ]);
    assert.deepEqual(mistakesOf("a: !!int x"), ['1:10 "x" is no value for the tag "!!int"']);
    assert.deepEqual(mistakesOf("a: !!binary aGk="), ['1:13 tag "!!binary" is not supported']);
    assert.deepEqual(mistakesOf("a: !!set {x}"), ['1:10 tag "!!set" is not supported']);
    assert.deepEqual(mistakesOf("a: !mine {x: 1}"), ['1:10 tag "!mine" is not supported']);
  });
});

describe("anchors and merge keys", () => {
  test("stand for what they mark", () => {
    assert.deepEqual(contentOf("a: &x {p: 1}\nb: *x\nc: [*x, &y 2, *y]\n"), {
      a: { p: 1n },
      b: { p: 1n },
      c: [{ p: 1n }, 2n, 2n],
    });
  });

  test("give their keys first; the map's own win, and of several the first", () => {
    const text = [
      "one: &one {first: 1, second: 1}",
      "two: &two {second: 2, third: 2}",
      "own: {second: 3, <<: *one}",
      "both: {<<: [*one, *two], fourth: 4}",
    ].join("\n");
    const value = contentOf(text) as Record<string, Record<string, unknown>>;
    assert.deepEqual(Object.entries(value["own"] ?? {}), [
      ["first", 1n],
      ["second", 3n],
    ]);
    assert.deepEqual(value["both"], { first: 1n, second: 1n, third: 2n, fourth: 4n });
  });

  test("merge through others", () => {
    const text = "a: &a {x: 1}\nb: &b {<<: *a, y: 2}\nc: {<<: *b, z: 3}\n";
    assert.deepEqual((contentOf(text) as { c: unknown }).c, { x: 1n, y: 2n, z: 3n });
  });

  test("in quotes are keys like any other", () => {
    assert.deepEqual(contentOf('{"<<": 1}'), { "<<": 1n });
  });

  test("that are unknown, contain themselves, or merge what is no map, are mistakes", () => {
    assert.deepEqual(mistakesOf("anchor: &base {}\na: *bsae\n"), ['2:4 unknown anchor "bsae"']);
    assert.equal(parseYaml("c.yaml", "a: &base {}\nb: *bsae\n").mistakes[0]?.suggestion, "base");
    assert.deepEqual(mistakesOf("a: &a {b: *a}\n"), ['1:11 anchor "a" contains itself']);
    assert.deepEqual(mistakesOf("a: {<<: 5}\n"), ['1:5 "<<" merges maps, not a number']);
    assert.deepEqual(mistakesOf("x: &x {}\na:\n  <<: *x\n  <<: *x\n"), ['4:3 duplicate key "<<"']);
  });
});

describe("keys", () => {
  test("stand once in each map", () => {
    assert.deepEqual(mistakesOf("a: 1\nb:\n  c: 1\n  c: 2\na: 3\n"), [
      '4:3 duplicate key "c"',
      '5:1 duplicate key "a"',
    ]);
  });

  test("are text", () => {
    assert.deepEqual(mistakesOf("7: a\nno: b\n~: c\n[1]: d\n"), [
      "1:1 key 7 is a number, not text",
      "2:1 key no is true or false, not text",
      "3:1 key ~ is empty, not text",
      "4:1 a key must be text, not a list",
    ]);
    assert.deepEqual(contentOf("'7': a\n2024-01-01: b\n"), { "7": "a", "2024-01-01": "b" });
  });

  test("keep the order of the file, also where JavaScript would not", () => {
    const { keys } = parseYaml("c.yaml", 'm: {b: 1, "7": 1, a: 1, "3": 1}');
    assert.deepEqual(keys(["m"]), ["b", "7", "a", "3"]);
  });
});

describe("a text that is no YAML", () => {
  const broken: readonly (readonly [text: string, mistake: string])[] = [
    ["a: 1\n\tb: 2\n", "2:1 no valid YAML: a tab indents this line"],
    ["a: 1\nb: c: d\n", '2:4 no valid YAML: a second ": " in one line'],
    ["a: 1\nb\nc: 2\n", '2:1 no valid YAML: this line is no "key: value"'],
    ["a: [1, 2\nb: 3\n", '2:1 no valid YAML: "]" is missing here'],
    ["a: {b: 1\n", '2:1 no valid YAML: "}" is missing here'],
    ['a: 1\nb: "x\nc: 2\n', "2:4 this quote is not closed"],
    ["a: 1\nb: 'x\n", "2:4 this quote is not closed"],
    ["a:\n  b: 1\n c: 2\n", "3:2 no valid YAML: all mapping items must start at the same column"],
    ["a: {m: ${X}}\n", '1:9 no valid YAML: unexpected "{" after the value'],
    ['a: "x" y\n', '1:8 no valid YAML: unexpected "y" after the value'],
    ["a: @x\n", "1:4 no valid YAML: plain value cannot start with reserved character @"],
    ["a: %x\n", "1:4 no valid YAML: plain value cannot start with directive indicator character %"],
    ['a: "\\d"\n', "1:5 no valid YAML: invalid escape sequence \\d"],
    ["a: 1\n---\nb: 1\n", "2:1 no valid YAML: the file holds more than one document"],
    ["a: x\u0007y\n", "1:5 the control character U+0007 is not allowed in YAML"],
  ];
  for (const [text, mistake] of broken) {
    test(`says where and why: ${mistake}`, () => {
      assert.deepEqual(mistakesOf(text), [mistake]);
    });
  }

  test("is told once for each line, whatever it is", () => {
    fc.assert(
      fc.property(
        fc.string({ unit: fc.constantFrom(..."ab: -\n\t[]{},\"'&*!|>%@#<?0.") }),
        (text) => {
          const { mistakes, value } = parseYaml("c.yaml", text);
          const lines = mistakes
            .filter(({ message }) => message.startsWith("no valid"))
            .map(({ line }) => line);
          assert.equal(new Set(lines).size, lines.length);
          assert.equal(value === undefined && mistakes.length === 0, false);
          for (const { line, column } of mistakes) {
            const at = text.split("\n")[line - 1];
            assert.ok(
              at !== undefined && column >= 1 && column <= at.length + 1,
              `${line}:${column}`,
            );
          }
        },
      ),
      { numRuns: 500 },
    );
  });
});

describe("what goes on in the next line, in brackets or quotes", () => {
  test("may stand anywhere, as PyYAML has it", () => {
    for (const [text, value] of [
      ["m:\n  a: [1,\n  2]\n  b: 3\n", { m: { a: [1n, 2n], b: 3n } }],
      ["a: [1,\n2]\nb: 3\n", { a: [1n, 2n], b: 3n }],
      [
        "m:\n    a: {x: [1,\n 2 # ]\n,\n3], y:\n4}\n    b: 3\n",
        { m: { a: { x: [1n, 2n, 3n], y: 4n }, b: 3n } },
      ],
      ["m:\n  - [1,\n2]\n  - 3\n", { m: [[1n, 2n], 3n] }],
      ["a: 'x\ny ''z\n\n[w'\nb: \"1\n\\\"2\\\n  3\"\n", { a: "x y 'z\n[w", b: '1 "23' }],
    ] as const) {
      assert.deepEqual(contentOf(text), value, text);
    }
  });

  test("is read the same however it is indented", () => {
    const value = fc.letrec((tie) => ({
      any: fc.oneof(
        { maxDepth: 3, depthSize: "small" },
        fc.bigInt().map(String),
        fc
          .string({ unit: fc.constantFrom(..."ab \"'[]{},:#-") })
          .map((text) => JSON.stringify(text)),
        fc.array(tie("any"), { maxLength: 4 }).map((items) => `[@${items.join(",@")}@]`),
        fc
          .uniqueArray(
            fc.tuple(fc.string({ unit: fc.constantFrom(..."abc"), minLength: 1 }), tie("any")),
            {
              selector: ([key]) => key,
              maxLength: 4,
            },
          )
          .map((pairs) => `{@${pairs.map(([key, one]) => `"k${key}": ${one}`).join(",@")}@}`),
      ),
    })).any;
    fc.assert(
      fc.property(value, fc.array(fc.nat(6), { minLength: 1, maxLength: 20 }), (flow, indents) => {
        let n = 0;
        const broken = String(flow).replaceAll(
          "@",
          () => `\n${" ".repeat(indents[n++ % indents.length] ?? 0)}`,
        );
        const read = (one: string) => contentOf(`m:\n  n:\n    key: ${one}\n    last: 1\n`);
        assert.deepEqual(read(broken), read(String(flow).replaceAll("@", " ")));
      }),
    );
  });

  test("keeps the places of mistakes", () => {
    const text = "a: [1,\n2]\nb: {x: 1,\nyy: *z}\na: 3\n";
    assert.deepEqual(mistakesOf(text), ['4:5 unknown anchor "z"', '5:1 duplicate key "a"']);
    const [unknown] = parseYaml("c.yaml", text).mistakes;
    assert.equal(unknown?.frame, "  3 | b: {x: 1,\n  4 | yy: *z}\n    |     ^^");
  });
});

describe("other layouts", () => {
  test("that PyYAML reads are read", () => {
    assert.deepEqual(contentOf("\ufeffa: 1\r\nb: |\r\n  x\r\n  y\r\n"), { a: 1n, b: "x\ny\n" });
    assert.deepEqual(contentOf("---\na: [\n  1,\n  2,\n]\n...\n"), { a: [1n, 2n] });
    assert.deepEqual(contentOf('a:\n- x: 1\n  y: 2\n- {z: "${Z}", w: http://h:1/p}\n'), {
      a: [
        { x: 1n, y: 2n },
        { z: "${Z}", w: "http://h:1/p" },
      ],
    });
    assert.deepEqual(contentOf("%YAML 1.2\n---\na: 010\n"), { a: 8n });
  });
});
