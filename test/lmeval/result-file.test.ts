import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { parsePythonJson } from "../../src/base/json.ts";
import { pythonIsoDate } from "../../src/lmeval/python-date.ts";
import { pythonJsonText, pythonText, rawJsonMember } from "../../src/lmeval/raw-json.ts";
import { parseResultFile } from "../../src/lmeval/result-file.ts";

const fixtures = join(import.meta.dirname, "../fixtures/results");
const read = (name: string) => readFileSync(join(fixtures, name), "utf8");

interface Expected {
  readonly file: string;
  readonly task: string;
  readonly task_display_name: string;
  readonly eval_date: string;
  readonly eval_config: Record<string, unknown>;
  readonly task_config: Record<string, unknown>;
  readonly num_fewshot: number;
  readonly n_samples: number;
  readonly metric: string;
  readonly metric_filter: string;
  readonly score: number | null;
  readonly score_stderr: number | null;
  readonly higher_is_better: boolean | null;
}

const plain = (value: unknown): unknown =>
  JSON.parse(
    JSON.stringify(value, (_key, item: unknown) =>
      typeof item === "bigint" ? Number(item) : item,
    ),
  );

for (const version of ["0.4.12", "0.4.13"]) {
  describe(`result files of lm_eval ${version}`, () => {
    const expected = parsePythonJson(read(`expected.lm_eval-${version}.json`)) as Expected[];
    const files = [...new Set(expected.map(({ file }) => file))];

    for (const file of files) {
      test(`${file} gives what lm_eval had in memory`, () => {
        const parsed = parseResultFile(read(file));
        const rows = expected.filter((row) => row.file === file);
        const [first] = rows;
        assert.ok(first !== undefined);
        assert.deepEqual([...parsed.tasks.keys()], [first.task]);
        const task = parsed.tasks.get(first.task);
        assert.ok(task !== undefined);
        assert.equal(parsed.eval_date, first.eval_date);
        assert.deepEqual(plain(parsed.eval_config), first.eval_config);
        assert.deepEqual(plain(task.task_config), first.task_config);
        assert.equal(task.alias, first.task_display_name);
        assert.equal(task.num_fewshot, BigInt(first.num_fewshot));
        assert.equal(task.n_samples, BigInt(first.n_samples));
        assert.deepEqual(
          task.metrics,
          rows.map(({ metric, metric_filter, score, score_stderr, higher_is_better }) => ({
            metric,
            metric_filter,
            score,
            score_stderr,
            higher_is_better,
          })),
        );
      });
    }

    test("predict_only gives no score", () => {
      const { tasks } = parseResultFile(read(`predict_only.lm_eval-${version}.json`));
      assert.deepEqual(tasks.get("eh_cloze")?.metrics, []);
    });
  });
}

/** A file with one task, `t`, whose parts are given. */
function fileOf(parts: Record<string, unknown>): string {
  return JSON.stringify({ results: { t: {} }, configs: { t: {} }, ...parts });
}

describe("parseResultFile", () => {
  test("takes numbers that numpy left as text, and neither words nor containers", () => {
    const scores = {
      "a,none": "0.5",
      "b,none": "nan",
      "c,none": "N/A",
      "d,none": [1],
      "e,none": "1e-07",
      "f,none": "True",
      "bypass,none": 999,
      "128,none": -1,
      "acc,none": -1,
    };
    const task = parseResultFile(fileOf({ results: { t: scores } })).tasks.get("t");
    assert.deepEqual(
      task?.metrics.map(({ metric, score }) => [metric, score]),
      [
        ["a", 0.5],
        ["b", Number.NaN],
        ["c", null],
        ["d", null],
        ["e", 1e-7],
        ["f", 1],
        ["acc", -1],
      ],
    );
  });

  test("loses a field of an unexpected type, not the file", () => {
    const text = fileOf({
      date: "soon",
      max_length: 1e30,
      eot_token_id: "x",
      tokenizer_pad_token: {},
      versions: [],
      "n-shot": null,
      "n-samples": { t: 3 },
      task_hashes: 7,
    });
    const parsed = parseResultFile(text);
    assert.equal(parsed.eval_date, null);
    assert.equal(parsed.eval_config.max_length, null);
    assert.equal(parsed.eval_config.eot_token_id, null);
    assert.equal(parsed.tasks.get("t")?.task_config.task_version, null);
  });

  test("keeps tasks whose names are words of JavaScript apart", () => {
    const results = { constructor: { "acc,none": 1 }, toString: { "acc,none": 2 } };
    const configs = { toString: {} };
    const parsed = parseResultFile(JSON.stringify({ results, configs }));
    assert.deepEqual([...parsed.tasks.keys()], ["toString"]);
  });

  test("refuses what is no result file", () => {
    assert.throws(() => parseResultFile("[]"), SyntaxError);
    assert.throws(() => parseResultFile('{"results": {'), SyntaxError);
  });
});

describe("raw JSON", () => {
  const text =
    '{"a\\"}": "x\\\\", "b": [1, {"c": "]"}, 2.0], "c": {"d" : 1e-07 , "e": -0.0}, "n": NaN}';

  test("finds a member's text behind strings that look like structure", () => {
    assert.equal(rawJsonMember(text, ["b"]), '[1, {"c": "]"}, 2.0]');
    assert.equal(rawJsonMember(text, ["c", "d"]), "1e-07");
    assert.equal(rawJsonMember(text, ["c", "e"]), "-0.0");
    assert.equal(rawJsonMember(text, ["n"]), "NaN");
    assert.equal(rawJsonMember(text, ['a"}']), '"x\\\\"');
    assert.equal(rawJsonMember(text, ["c", "x"]), undefined);
    assert.equal(rawJsonMember(text, ["n", "x"]), undefined);
  });

  test("is printed as Python's json.dumps and str do", () => {
    const raw = '{\n "a": [true, null, 1.0, "it\'s, ok: \\u00e9\\n"],"b":{}, "c": []}';
    assert.equal(
      pythonJsonText(raw),
      '{"a": [true, null, 1.0, "it\'s, ok: \\u00e9\\n"], "b": {}, "c": []}',
    );
    assert.equal(pythonText(raw), "{'a': [True, None, 1.0, \"it's, ok: é\\n\"], 'b': {}, 'c': []}");
    assert.equal(pythonText('"bare"'), "bare");
  });
});

test("dates have Python's microseconds, rounded half to even", () => {
  assert.equal(pythonIsoDate(1795495816.8370442), "2026-11-24T04:50:16.837044+00:00");
  assert.equal(pythonIsoDate(0), "1970-01-01T00:00:00+00:00");
  assert.equal(pythonIsoDate(0.9999999), "1970-01-01T00:00:01+00:00");
  assert.equal(pythonIsoDate(0.0000005), "1970-01-01T00:00:00+00:00");
  assert.equal(pythonIsoDate(-0.5), "1969-12-31T23:59:59.500000+00:00");
  assert.equal(pythonIsoDate(Number.NaN), undefined);
});
