import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { describe, test } from "node:test";
import { readOldScores, trackChanges } from "../../src/results/changes.ts";
import { collectScores } from "../../src/results/collect.ts";
import { type ScoreRow, scoreColumns } from "../../src/results/row.ts";
import { writeTable } from "../../src/results/table.ts";
import { requirePython } from "../support/require.ts";
import { temporaryDirectory } from "../support/temporary.ts";
import { completeRun, writeLeaf } from "./run-fixture.ts";

const empty = Object.fromEntries(
  Object.keys(scoreColumns).map((column) => [column, null]),
) as unknown as ScoreRow;

const rowOf = (task: string, score: number | null, more: Partial<ScoreRow> = {}): ScoreRow => ({
  ...empty,
  ...{ model: "m", step: 5n, task, metric: "acc", metric_filter: "none", score },
  ...{ eval_date: "2026-11-24T00:00:00+00:00", fingerprint: "fp1:a" },
  ...more,
});

async function* some(rows: readonly ScoreRow[]): AsyncGenerator<readonly ScoreRow[]> {
  yield rows;
}

async function changesBetween(old: readonly ScoreRow[], rows: readonly ScoreRow[]) {
  await using directory = await temporaryDirectory();
  const path = join(directory.path, "scores.parquet");
  await writeTable(path, some(old), {});
  const scores = await readOldScores(path);
  assert.ok(scores !== undefined);
  const tracker = trackChanges(scores);
  for (const row of rows) tracker.see(row);
  return tracker.result();
}

describe("changes against the old file", () => {
  test("tell added, removed, replaced and changed apart, per model too", async () => {
    const later = { eval_date: "2026-11-25T00:00:00+00:00" };
    const changes = await changesBetween(
      [
        rowOf("same", Number.NaN),
        rowOf("again", 0.5),
        rowOf("better", 0.5),
        rowOf("gone", 0.1),
        rowOf("gone", 0.1, { model: "other", step: null }),
      ],
      [
        rowOf("same", Number.NaN),
        rowOf("again", 0.5, { fingerprint: "fp1:b" }),
        rowOf("better", 0.75, later),
        rowOf("new", 1),
      ],
    );
    const { added, removed, replaced, changed, unchanged } = changes;
    assert.deepEqual([added, removed, replaced, changed, unchanged], [1, 2, 2, 1, 1]);
    assert.deepEqual(Object.fromEntries(changes.by_model), {
      m: { added: 1, removed: 1, replaced: 2, changed: 1 },
      other: { added: 0, removed: 1, replaced: 0, changed: 0 },
    });
    const [value] = changes.values;
    assert.deepEqual([value?.task, value?.old_score, value?.new_score], ["better", 0.5, 0.75]);
  });

  test("are none when the same results are collected again, and name what was evaluated anew", async () => {
    await using directory = await temporaryDirectory();
    const { layout, outputPath, entries } = await completeRun(directory.path);
    const collect = async () =>
      await collectScores(layout, { output: layout.scores, version: "test" });
    assert.equal((await collect()).changes, undefined);
    const again = await collect();
    assert.equal(again.changes?.unchanged, again.rows);
    const [entry] = entries;
    assert.ok(entry !== undefined);
    await writeLeaf(outputPath, entry, "eh_choice", {
      version: "0.4.12",
      edit: (text) =>
        text.replace('"acc,none": 0.25', '"acc,none": 0.5').replace(/"date": \d+/, '"date": 1'),
    });
    const { changes } = await collect();
    assert.deepEqual([changes?.replaced, changes?.changed, changes?.added], [2, 1, 0]);
    assert.deepEqual([changes?.values[0]?.old_score, changes?.values[0]?.new_score], [0.25, 0.5]);
  });

  test("are seen in files of other writers: float steps, large strings, null columns, no columns", async (t) => {
    const python = requirePython(t);
    if (python === undefined) return;
    await using directory = await temporaryDirectory();
    const [foreign, nothing] = ["foreign.parquet", "nothing.parquet"].map((name) =>
      join(directory.path, name),
    ) as [string, string];
    const program = `
import sys, pyarrow as pa, pyarrow.parquet as pq
pq.write_table(pa.table({
    "model": pa.array(["m", "m"], pa.large_string()), "step": pa.array([5.0, None]),
    "task": pa.array(["same", "same"], pa.string_view()), "metric": ["acc", "acc"], "metric_filter": ["none", "none"],
    "score": pa.array([0.5, 0.25]), "score_stderr": pa.nulls(2), "eval_date": ["2026-11-24T00:00:00+00:00"] * 2,
    "eval_config": pa.array([{"system_instruction": None}] * 2),
}), sys.argv[1])
pq.write_table(pa.table({}), sys.argv[2])`;
    execFileSync(python, ["-c", program, foreign, nothing]);
    const scores = await readOldScores(foreign);
    assert.ok(scores !== undefined);
    const tracker = trackChanges(scores);
    tracker.see(rowOf("same", 0.5, { fingerprint: null }));
    tracker.see(rowOf("same", 0.25, { fingerprint: null, step: null }));
    assert.equal(tracker.result().unchanged, 2);
    assert.equal((await readOldScores(nothing))?.size, 0);
  });

  test("are not looked for in a table of something else", async (t) => {
    const python = requirePython(t);
    if (python === undefined) return;
    await using directory = await temporaryDirectory();
    const path = join(directory.path, "data.parquet");
    const program =
      'import sys, pyarrow as pa, pyarrow.parquet as pq; pq.write_table(pa.table({"model": ["m"]}), sys.argv[1])';
    execFileSync(python, ["-c", program, path]);
    await assert.rejects(readOldScores(path), /no table of scores: it has no column "step"/);
  });
});
