import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { describe, test } from "node:test";
import fc from "fast-check";
import { asyncBufferFromFile, parquetMetadataAsync, parquetReadObjects } from "hyparquet";
import { compressors } from "hyparquet-compressors";
import { parsePythonJson } from "../../src/base/json.ts";
import { scoreSchema } from "../../src/results/columns.ts";
import { compareKeys, type ScoreKey, type ScoreRow, scoreColumns } from "../../src/results/row.ts";
import { openTable, writeTable } from "../../src/results/table.ts";
import { requirePython } from "../support/require.ts";
import { temporaryDirectory } from "../support/temporary.ts";

const empty = Object.fromEntries(
  Object.keys(scoreColumns).map((column) => [column, null]),
) as unknown as ScoreRow;

async function* some(rows: readonly ScoreRow[]): AsyncGenerator<readonly ScoreRow[]> {
  yield rows;
}

const emptyEvalConfig = Object.fromEntries(
  Object.keys(scoreColumns.eval_config).map((field) => [field, null]),
) as unknown as NonNullable<ScoreRow["eval_config"]>;

/** All that has gone wrong in some library: exact integers, non-finite scores, null against empty, texts. */
const tricky: ScoreRow[] = [
  empty,
  { ...empty, model: "", step: 9_007_199_254_740_993n, score: Number.NaN, higher_is_better: false },
  {
    ...empty,
    model: "möglich — 𝄞\u0000",
    step: -(2n ** 63n),
    score: Number.NEGATIVE_INFINITY,
    score_stderr: 5e-324,
    higher_is_better: true,
    tokens_trained: 2n ** 63n - 1n,
    eval_config: emptyEvalConfig,
  },
  {
    ...empty,
    score: 0.1,
    eval_config: { ...emptyEvalConfig, chat_template: "x".repeat(5000), eot_token_id: 128n },
  },
];

/** Comparable whatever a library makes of integers and non-finite numbers. */
function comparable(value: unknown): unknown {
  if (typeof value === "bigint") return `${value}`;
  if (typeof value === "number") return `f${value}`;
  if (typeof value !== "object" || value === null) return value ?? null;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, comparable(item)]));
}

/** A null struct is read as a struct of nulls by hyparquet (hyparquet#168): there, the two count as one. */
function withoutNullStructs(row: unknown): unknown {
  const fields = comparable(row) as Record<string, unknown>;
  for (const struct of ["eval_config", "task_config"]) {
    const value = fields[struct];
    if (Object.values(value ?? {}).every((item) => item === null)) fields[struct] = null;
  }
  return fields;
}

async function readWithHyparquet(path: string): Promise<Record<string, unknown>[]> {
  return await parquetReadObjects({ file: await asyncBufferFromFile(path), compressors });
}

/** Rows as Python sees them, with integers as text and floats marked, so that nothing is lost on the way. */
function readWithPyarrow(python: string, path: string): unknown {
  const program = `
import json, sys
import pyarrow.parquet as pq
def plain(value):
    if isinstance(value, dict): return {key: plain(item) for key, item in value.items()}
    if isinstance(value, bool) or value is None or isinstance(value, str): return value
    if isinstance(value, int): return str(value)
    return value
file = pq.ParquetFile(sys.argv[1])
table = file.read()
groups = [file.metadata.row_group(i) for i in range(file.num_row_groups)]
print(json.dumps({
    "rows": [plain(row) for row in table.to_pylist()],
    "schema": [[field.name, str(field.type).split("<")[0], field.nullable] for field in table.schema],
    "groups": [group.num_rows for group in groups],
    "codecs": sorted({group.column(c).compression for group in groups for c in range(group.num_columns)}),
    "page_index": all(group.column(c).has_column_index and group.column(c).has_offset_index
                      for group in groups for c in range(group.num_columns)),
    "metadata": json.loads(file.metadata.metadata[b"eval_hive"]),
}))`;
  const output = execFileSync(python, ["-c", program, path], {
    encoding: "utf8",
    maxBuffer: 1 << 30,
  });
  return parsePythonJson(output);
}

interface Seen {
  readonly rows: Record<string, unknown>[];
  readonly schema: [string, string, boolean][];
  readonly groups: number[];
  readonly codecs: string[];
  readonly page_index: boolean;
  readonly metadata: Record<string, unknown>;
}

const arrowNames = { text: "string", int64: "int64", float64: "double", boolean: "bool" } as const;

describe("the table", () => {
  test("has the columns of eval-hive 0.1, in order, then ours", () => {
    assert.deepEqual(Object.keys(scoreColumns), [
      ...["model", "step", "task", "metric", "metric_filter", "score", "score_stderr"],
      ...["task_type", "parent_task", "task_display_name", "num_fewshot", "task_formulation"],
      ...["higher_is_better", "language", "n_samples", "subtask_tree", "train_batch_size"],
      ...["tokens_trained", "eval_date", "result_source", "eval_config", "task_config"],
      ...["model_path", "is_checkpoint", "model_display_name"],
      ...["fingerprint", "run_id"],
    ]);
    assert.ok(scoreSchema.fields.every(({ nullable }) => nullable));
  });

  test("reads back every cell as it was", async () => {
    await using directory = await temporaryDirectory();
    const path = join(directory.path, "scores.parquet");
    await writeTable(path, some(tricky), {});
    using table = await openTable(path);
    assert.ok(table !== undefined);
    const rows: unknown[] = [];
    for await (const batch of table.rows(table.columns)) rows.push(...batch.map(comparable));
    assert.deepEqual(rows, tricky.map(comparable));
  });

  test("is the same to hyparquet, cell by cell", async () => {
    await using directory = await temporaryDirectory();
    const path = join(directory.path, "scores.parquet");
    await writeTable(path, some(tricky), {});
    const rows = await readWithHyparquet(path);
    assert.deepEqual(rows.map(withoutNullStructs), tricky.map(withoutNullStructs));
    assert.deepEqual(Object.keys(rows[0] ?? {}), Object.keys(scoreColumns));
  });

  test("is the same to pyarrow, cell by cell, with schema, groups and page index", async (t) => {
    const python = requirePython(t);
    if (python === undefined) return;
    await using directory = await temporaryDirectory();
    const path = join(directory.path, "scores.parquet");
    await writeTable(path, some(tricky), { writer: "test" });
    const seen = readWithPyarrow(python, path) as Seen;
    // Python's integers came as text, as comparable() has them; its floats as numbers.
    assert.deepEqual(seen.rows.map(comparable), tricky.map(comparable));
    assert.deepEqual(
      seen.schema,
      Object.entries(scoreColumns).map(([name, type]) => [
        name,
        typeof type === "string" ? arrowNames[type] : "struct",
        true,
      ]),
    );
    assert.deepEqual([seen.codecs, seen.page_index], [["ZSTD"], true]);
    assert.deepEqual(seen.metadata, { writer: "test" });
  });

  test("has its whole schema without a row, and all-null columns keep their type", async (t) => {
    const python = requirePython(t);
    if (python === undefined) return;
    await using directory = await temporaryDirectory();
    const [none, nulls] = ["none.parquet", "nulls.parquet"].map((name) =>
      join(directory.path, name),
    ) as [string, string];
    await writeTable(none, some([]), {});
    await writeTable(nulls, some([empty, empty]), {});
    const seen = [none, nulls].map((path) => readWithPyarrow(python, path) as Seen);
    assert.deepEqual(seen[0]?.schema, seen[1]?.schema);
    assert.deepEqual(
      seen.map(({ rows }) => rows.length),
      [0, 2],
    );
    assert.equal((await readWithHyparquet(none)).length, 0);
  });

  test("streams many rows in groups of 50,000", async () => {
    await using directory = await temporaryDirectory();
    const path = join(directory.path, "scores.parquet");
    async function* many(): AsyncGenerator<readonly ScoreRow[]> {
      for (let step = 0n; step < 120n; step++) {
        yield Array.from({ length: 1000 }, (_, at) => ({
          ...empty,
          model: "m",
          step,
          task: `task_${at}`,
          eval_config: { ...emptyEvalConfig, chat_template: "x".repeat(480) },
        }));
      }
    }
    await writeTable(path, many(), {});
    const metadata = await parquetMetadataAsync(await asyncBufferFromFile(path));
    assert.deepEqual(
      metadata.row_groups.map(({ num_rows }) => Number(num_rows)),
      [50_000, 50_000, 20_000],
    );
    for (const { total_byte_size } of metadata.row_groups) {
      assert.ok(total_byte_size < 20_000_000n, `a group of ${total_byte_size} bytes`);
    }
    assert.ok((await stat(path)).size < 5_000_000);
    let [n, step] = [0, -1n];
    using table = await openTable(path);
    for await (const rows of table?.rows(["step"]) ?? []) {
      n += rows.length;
      for (const row of rows) {
        assert.ok((row.step as bigint) >= step);
        step = row.step as bigint;
      }
    }
    assert.equal(n, 120_000);
  });

  for (const when of ["before the first batch", "after many batches"]) {
    test(`tells the cause when its rows fail ${when}, and leaves the old file`, async () => {
      await using directory = await temporaryDirectory();
      const path = join(directory.path, "scores.parquet");
      await writeTable(path, some(tricky), {});
      const before = await readFile(path);
      const cause = new Error("the disk is gone");
      async function* failing(): AsyncGenerator<readonly ScoreRow[]> {
        if (when !== "before the first batch") {
          for (let n = 0; n < 20; n++) yield Array.from({ length: 1000 }, () => empty);
        }
        throw cause;
      }
      await assert.rejects(writeTable(path, failing(), {}), cause);
      assert.ok(before.equals(await readFile(path)));
      assert.deepEqual(await readdir(directory.path), ["scores.parquet"]);
    });
  }

  test("is refused by name when it is something else", async () => {
    await assert.rejects(openTable(import.meta.filename), { code: "results.table-read" });
    assert.equal(await openTable(`${import.meta.filename}.parquet`), undefined);
  });

  test("has the fields of its structs in order", () => {
    const struct = scoreSchema.fields.find(({ name }) => name === "task_config");
    assert.deepEqual(
      struct?.type.children.map(({ name }: { name: string }) => name),
      Object.keys(scoreColumns.task_config),
    );
  });
});

test("keys are ordered as UTF-8 bytes are, nulls first", () => {
  const keyOf = (model: string | null, step: bigint | null): ScoreKey => ({
    model,
    step,
    task: "t",
    metric: "m",
    metric_filter: "f",
  });
  fc.assert(
    fc.property(fc.string({ unit: "binary" }), fc.string({ unit: "binary" }), (a, b) => {
      const bytes = Buffer.compare(Buffer.from(a), Buffer.from(b));
      assert.equal(Math.sign(compareKeys(keyOf(a, 1n), keyOf(b, 1n))), bytes);
    }),
  );
  assert.ok(compareKeys(keyOf("m", null), keyOf("m", -5n)) < 0);
  assert.ok(compareKeys(keyOf("m", 9n), keyOf("m", 10n)) < 0);
  assert.ok(compareKeys(keyOf(null, 9n), keyOf("", null)) < 0);
});
