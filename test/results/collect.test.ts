import assert from "node:assert/strict";
import { copyFile, mkdir, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { describe, test } from "node:test";
import { sha256 } from "../../src/base/hash.ts";
import { parsePythonJson } from "../../src/base/json.ts";
import { collectScores } from "../../src/results/collect.ts";
import { scoreColumns } from "../../src/results/row.ts";
import { openTable, type TableRow } from "../../src/results/table.ts";
import { leafDirectory, RunLayout } from "../../src/run/layout.ts";
import { temporaryDirectory } from "../support/temporary.ts";
import {
  completeRun,
  entryOf,
  fingerprintOf,
  leafOf,
  nodeOf,
  planOf,
  writeLeaf,
  writeRun,
} from "./run-fixture.ts";

const version = "0.1.0-test";

async function readRows(path: string): Promise<TableRow[]> {
  using table = await openTable(path);
  assert.ok(table !== undefined);
  const rows: TableRow[] = [];
  for await (const some of table.rows(Object.keys(scoreColumns))) rows.push(...some);
  return rows;
}

const collect = async (layout: RunLayout, output = layout.scores) =>
  await collectScores(layout, { output, version });

const key = (row: TableRow) =>
  `${row.model} ${row.step} ${row.task} ${row.metric} ${row.metric_filter}`;

describe("collect", () => {
  test("counts what was made with another server command, and says so", async () => {
    await using directory = await temporaryDirectory();
    const { layout, outputPath, entries, plan } = await completeRun(directory.path);
    const [entry] = entries;
    assert.ok(entry !== undefined);
    const served = (leaf: string, command: string | null) =>
      writeLeaf(outputPath, entry, leaf, {
        version: "0.4.12",
        block: { server_command_sha256: command === null ? null : sha256(command) },
      });
    const profile = { ...plan.profiles["default"], server_command: "serve --now" };
    await writeRun(layout, { ...plan, profiles: { default: profile } } as typeof plan, entries);
    await served("eh_choice", "serve --now");
    assert.deepEqual((await collect(layout)).warnings, []);

    await served("eh_choice", "serve --as-before");
    await served("eh_cloze", null);
    const { warnings, units, rows } = await collect(layout);
    assert.deepEqual(warnings, [
      '"tiny--main": 2 of 6 results were made with another inference_server_command than the run has now (eh_choice, eh_cloze); they count',
    ]);
    assert.deepEqual(units[0]?.served_otherwise, ["eh_choice", "eh_cloze"]);
    assert.equal(rows, 42);
  });

  test("gives the rows that real lm_eval files of both versions stand for", async () => {
    await using directory = await temporaryDirectory();
    const { layout, entries, outputPath } = await completeRun(directory.path);
    const report = await collect(layout);
    const rows = await readRows(layout.scores);
    assert.equal(report.rows, rows.length);
    const fixtures = join(import.meta.dirname, "../fixtures/results");
    for (const entry of entries) {
      const lmEval = entry.label === "main" ? "0.4.12" : "0.4.13";
      const expected = parsePythonJson(
        await readFile(join(fixtures, `expected.lm_eval-${lmEval}.json`), "utf8"),
      ) as Record<string, unknown>[];
      const step = entry.step === null ? null : BigInt(entry.step);
      const ours = rows.filter((row) => row.step === step);
      assert.equal(ours.length, expected.length);
      for (const { file: _, eval_config, task_config, ...golden } of expected) {
        const row = ours.find(
          (row) =>
            row.task === golden.task &&
            row.metric === golden.metric &&
            row.metric_filter === golden.metric_filter,
        );
        assert.ok(row !== undefined, `no row for ${JSON.stringify(golden)}`);
        for (const [column, value] of Object.entries(golden)) {
          assert.deepEqual(plain(row[column]), value, `${golden.task} ${golden.metric} ${column}`);
        }
        assert.deepEqual(plain(row.eval_config), eval_config);
        assert.deepEqual(plain(row.task_config), task_config);
        assert.equal(row.fingerprint, fingerprintOf(golden.task as string));
        assert.ok((row.result_source as string).startsWith(leafDirectory(outputPath, entry)));
      }
    }
  });

  test("derives tokens, batch size, language, formulation and parent", async () => {
    await using directory = await temporaryDirectory();
    const { layout } = await completeRun(directory.path);
    await collect(layout);
    const rows = await readRows(layout.scores);
    const at = (step: bigint | null, task: string) =>
      rows.find((row) => row.step === step && row.task === task) as TableRow;
    const main = at(null, "eh_choice");
    assert.deepEqual(
      [main.tokens_trained, main.train_batch_size, main.is_checkpoint],
      [2n ** 60n + 1n, null, false],
    );
    const late = at(200n, "eh_choice");
    assert.deepEqual(
      [late.tokens_trained, late.train_batch_size, late.is_checkpoint],
      [(2n ** 54n + 1n) * 200n, 2n ** 54n + 1n, true],
    );
    const early = at(100n, "eh_choice");
    assert.deepEqual(
      [early.tokens_trained, early.train_batch_size],
      [9_007_199_254_740_993n, 90_071_992_547_409n],
    );
    const described = Object.fromEntries(
      ["eh_choice", "eh_cloze", "eh_generate", "eh_rolling", "fin_eh_lengths", "german_eh_bpb"].map(
        (task) => {
          const row = at(null, task);
          return [task, [row.task_formulation, row.language, row.parent_task]];
        },
      ),
    );
    assert.deepEqual(described, {
      eh_choice: ["rank_choice", "deu", "eh_all"],
      eh_cloze: ["rank_choice", "eng", "eh_all"],
      eh_generate: ["generative", "eng", "later"],
      eh_rolling: ["bits_per_byte", "eng", "eh_all::inner"],
      fin_eh_lengths: ["generative", "fin", "eh_all"],
      german_eh_bpb: ["bits_per_byte", "deu", null],
    });
    assert.deepEqual(new Set(rows.map((row) => row.task_type)), new Set(["benchmark"]));
    assert.deepEqual(new Set(rows.map((row) => row.run_id)), new Set(["run-1"]));
  });

  test("sorts by key, nulls first, and writes the same bytes for the same results", async () => {
    await using directory = await temporaryDirectory();
    const { layout } = await completeRun(directory.path);
    await collect(layout);
    const keys = (await readRows(layout.scores)).map(key);
    const steps = keys.map((text) => text.split(" ")[1]);
    assert.deepEqual([...new Set(steps)], ["null", "100", "200"]);
    const first = keys.filter((text) => text.includes(" 100 "));
    assert.deepEqual(first, first.toSorted());
    const bytes = await readFile(layout.scores);
    await collect(layout);
    assert.ok(bytes.equals(await readFile(layout.scores)));
  });

  test("takes one file per planned leaf and nothing else", async () => {
    await using directory = await temporaryDirectory();
    const { layout, outputPath, entries } = await completeRun(directory.path);
    await collect(layout);
    const keys = (await readRows(layout.scores)).map(key);
    const [entry] = entries;
    assert.ok(entry !== undefined);
    const own = leafDirectory(outputPath, entry);
    const [name] = (await readdir(own)).filter((name) => name.startsWith("results_eh_choice"));
    assert.ok(name !== undefined);
    const source = join(own, name);
    await copyFile(source, join(own, "results_eh_choice.0123456789ab.json"));
    await copyFile(source, join(own, "results_2026-11-24T00-00-00.json"));
    await mkdir(join(dirname(own), "batch_1_000"));
    await copyFile(source, join(dirname(own), "batch_1_000", name));
    const report = await collect(layout);
    assert.deepEqual((await readRows(layout.scores)).map(key), keys);
    assert.equal(new Set(keys).size, keys.length);
    assert.equal(report.changes?.unchanged, keys.length);
  });

  test("says what is missing, invalid and unreadable, and collects the rest", async () => {
    await using directory = await temporaryDirectory();
    const { layout, outputPath, entries } = await completeRun(directory.path);
    const [main, late, early] = entries;
    assert.ok(main !== undefined && late !== undefined && early !== undefined);
    await rm(leafDirectory(outputPath, main), { recursive: true });
    await rm(await writeLeaf(outputPath, late, "eh_choice"));
    await writeLeaf(outputPath, late, "eh_choice", { invalid: true });
    const cut = (text: string) => text.slice(0, 500);
    const torn = await writeLeaf(outputPath, early, "eh_cloze", { edit: cut });
    const other = await writeLeaf(outputPath, early, "eh_choice", { fingerprint: "fp1:00" });
    const report = await collect(layout);
    const [first, second, third] = report.units;
    assert.deepEqual([first?.unit, first?.missing.length], ["tiny--main", 6]);
    assert.deepEqual(
      second?.unreadable.map(({ path }) => path).toSorted(),
      [other, torn].toSorted(),
    );
    assert.deepEqual(third?.invalid, ["eh_choice"]);
    const rows = await readRows(layout.scores);
    assert.deepEqual(
      new Set(rows.map((row) => `${row.step} ${row.task}`)),
      new Set([
        ...["eh_generate", "eh_rolling", "fin_eh_lengths", "german_eh_bpb"].map((t) => `100 ${t}`),
        ...["eh_cloze", "eh_generate", "eh_rolling", "fin_eh_lengths", "german_eh_bpb"].map(
          (t) => `200 ${t}`,
        ),
      ]),
    );
  });

  test("tells two leaves of one name apart, and only those", async () => {
    await using directory = await temporaryDirectory();
    const layout = new RunLayout(join(directory.path, "run"));
    const outputPath = join(directory.path, "out");
    const entry = entryOf("m", "main");
    const leaves = [
      leafOf("eh_choice"),
      leafOf("eh_choice", { id: "eh_choice~a1b2c3", overrides: { num_fewshot: 2 } }),
      leafOf("eh_cloze", { id: "eh_cloze~d4e5f6", overrides: { num_fewshot: 2 } }),
    ];
    const suites = leaves.map(({ id, name }) => nodeOf("leaf", name, [], id));
    await writeRun(layout, planOf(outputPath, [entry], leaves, suites), [entry]);
    for (const { id, name } of leaves) await writeLeaf(outputPath, entry, id, { task: name });
    await collect(layout);
    const rows = await readRows(layout.scores);
    assert.deepEqual(
      new Set(rows.map((row) => row.task)),
      new Set(["eh_choice", "eh_choice[num_fewshot=2]", "eh_cloze"]),
    );
    assert.equal(new Set(rows.map(key)).size, rows.length);
  });

  test("warns when two units have one model and step, and keeps the rows of both in order", async () => {
    await using directory = await temporaryDirectory();
    const layout = new RunLayout(join(directory.path, "run"));
    const outputPath = join(directory.path, "out");
    const entries = ["step_0100", "step_100"].map((label) => entryOf("m", label, { step: 100 }));
    const leaves = [leafOf("eh_choice"), leafOf("eh_cloze")];
    await writeRun(layout, planOf(outputPath, entries, leaves, []), entries);
    for (const entry of entries) {
      for (const { id } of leaves) await writeLeaf(outputPath, entry, id);
    }
    const report = await collect(layout);
    assert.match(
      report.warnings.join(),
      /"m--step_0100", "m--step_100" have the same model and step/,
    );
    const keys = (await readRows(layout.scores)).map(key);
    assert.equal(keys.length, 8);
    assert.deepEqual(keys, keys.toSorted());
  });

  test("writes an empty table of all columns before the first result", async () => {
    await using directory = await temporaryDirectory();
    const { layout, outputPath } = await completeRun(directory.path);
    await rm(outputPath, { recursive: true });
    const report = await collect(layout);
    assert.equal(report.rows, 0);
    using table = await openTable(layout.scores);
    assert.deepEqual(table?.columns, Object.keys(scoreColumns));
    assert.deepEqual(await readRows(layout.scores), []);
  });

  test("does not empty a table because the results are out of reach", async () => {
    await using directory = await temporaryDirectory();
    const { layout, outputPath } = await completeRun(directory.path);
    await collect(layout);
    const before = await readFile(layout.scores);
    await rm(outputPath, { recursive: true });
    await assert.rejects(collect(layout), { code: "results.output-path", exitCode: 3 });
    assert.ok(before.equals(await readFile(layout.scores)));
  });

  test("does not replace a file that is no table of scores", async () => {
    await using directory = await temporaryDirectory();
    const { layout } = await completeRun(directory.path);
    const notes = join(directory.path, "notes.txt");
    await writeFile(notes, "keep me");
    await assert.rejects(collect(layout, notes), { code: "results.table-read", exitCode: 2 });
    assert.equal(await readFile(notes, "utf8"), "keep me");
    assert.deepEqual((await readdir(directory.path)).toSorted(), ["notes.txt", "out", "run"]);
  });

  test("names the place when the table can't be written", async () => {
    await using directory = await temporaryDirectory();
    const { layout } = await completeRun(directory.path);
    await assert.rejects(collect(layout, join(directory.path, "nowhere/scores.parquet")), {
      code: "results.write",
      exitCode: 3,
    });
  });

  test("writes nothing but the table", async () => {
    await using directory = await temporaryDirectory();
    const { layout } = await completeRun(directory.path);
    const state = async () => {
      const names = await readdir(layout.directory, { recursive: true });
      const stats = await Promise.all(names.map((name) => stat(join(layout.directory, name))));
      return [names, stats.map(({ mtimeMs }) => mtimeMs)];
    };
    const before = await state();
    await collect(layout, join(directory.path, "scores.parquet"));
    assert.deepEqual(await state(), before);
  });
});

function plain(value: unknown): unknown {
  if (typeof value === "bigint") return Number(value);
  if (typeof value !== "object" || value === null) return value;
  // A struct comes as Arrow's row proxy.
  return Object.fromEntries(Object.entries(value).map(([name, item]) => [name, plain(item)]));
}
