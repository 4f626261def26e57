import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdir, readdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";
import { leafDirectory } from "../../src/run/layout.ts";
import { completeRun, writeLeaf, writeRun } from "../results/run-fixture.ts";
import { root } from "../support/require.ts";
import { temporaryDirectory } from "../support/temporary.ts";

const run = promisify(execFile);

interface Outcome {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

async function collect(cwd: string, ...args: string[]): Promise<Outcome> {
  const main = join(root, "src/cli/main.ts");
  try {
    const { stdout, stderr } = await run(process.execPath, [main, "collect", ...args], { cwd });
    return { code: 0, stdout, stderr };
  } catch (error) {
    return error as Outcome;
  }
}

test("collect writes the table into the run, says where it lies, and records the event", async () => {
  await using directory = await temporaryDirectory();
  const { layout } = await completeRun(directory.path);
  const { code, stdout, stderr } = await collect(directory.path, "run");
  assert.deepEqual([code, stderr], [0, ""]);
  assert.match(stdout, /^42 rows from 18 of 18 leaves; 3 of 3 units complete$/m);
  assert.match(stdout, new RegExp(`^Scores: ${layout.scores}$`, "m"));
  const [journal] = await readdir(layout.events);
  const [event] = (await readFile(join(layout.events, journal as string), "utf8")).split("\n");
  const { type, run, output, rows } = JSON.parse(event as string);
  assert.deepEqual([type, run, output, rows], ["collect.done", "run-1", layout.scores, 42]);
});

test("collect exits with 4 when leaves lack scores, names them, and says what changed", async () => {
  await using directory = await temporaryDirectory();
  const { layout, outputPath, entries } = await completeRun(directory.path);
  await collect(directory.path, "run");
  const [main, late] = entries;
  assert.ok(main !== undefined && late !== undefined);
  await rm(await writeLeaf(outputPath, main, "eh_choice"));
  await rm(await writeLeaf(outputPath, late, "eh_cloze"));
  await writeLeaf(outputPath, late, "eh_cloze", { invalid: true });
  const text = await collect(directory.path, "run");
  assert.equal(text.code, 4);
  assert.match(text.stdout, /tiny--main: 5 of 6; missing eh_choice$/m);
  assert.match(text.stdout, /tiny--step_200: 5 of 6; invalid eh_cloze$/m);
  assert.match(text.stdout, /Against the old file: 0 added, 4 removed, 0 replaced, 0 changed/);
  assert.match(text.stdout, /38 rows from 16 of 18 leaves, 1 missing, 1 invalid; 1 of 3 units/);
  const json = await collect(directory.path, "run", "--json");
  assert.equal(json.code, 4);
  const data = JSON.parse(json.stdout);
  assert.deepEqual(
    [data.schema_version, data.complete, data.output, data.rows, data.leaves, data.changes.added],
    [
      1,
      false,
      layout.scores,
      38,
      { planned: 18, complete: 16, missing: 1, invalid: 1, unreadable: 0 },
      0,
    ],
  );
});

test("collect writes elsewhere, beside the working directory, and leaves the run's own table", async () => {
  await using directory = await temporaryDirectory();
  const { layout, outputPath, entries } = await completeRun(directory.path);
  await rm(layout.events, { recursive: true });
  const before = await readdir(layout.directory);
  const { code, stdout } = await collect(directory.path, "run", "-o", "my.parquet");
  assert.equal(code, 0);
  assert.match(stdout, new RegExp(`^Scores: ${join(directory.path, "my.parquet")}$`, "m"));
  assert.deepEqual(await readdir(layout.directory), before);
  for (const entry of entries) {
    assert.equal((await readdir(leafDirectory(outputPath, entry))).length, 6);
  }
});

test("collect names checkpoints that were not found yet", async () => {
  await using directory = await temporaryDirectory();
  const { layout, plan, entries } = await completeRun(directory.path);
  const notFound = { model: "tiny", path: "/models/tiny", steps: [300, 2n ** 60n + 1n] };
  const more = { model: "late", path: "/models/late", steps: [500] };
  await writeRun(layout, { ...plan, not_found: [notFound, more] }, entries);
  const text = await collect(directory.path, "run");
  assert.equal(text.code, 0);
  assert.match(
    text.stdout,
    /^tiny: not found yet: no checkpoint at "\/models\/tiny" \(2 steps: 300, 1152921504606846977\)$/m,
  );
  assert.match(text.stdout, /^late: not found yet: .* \(1 step: 500\)$/m);
  const json = await collect(directory.path, "run", "--json");
  assert.match(json.stdout, /1152921504606846977/);
  assert.deepEqual(JSON.parse(json.stdout).not_found[1], more);
});

test("collect replaces no directory and no device, and says so as an answer too", async () => {
  await using directory = await temporaryDirectory();
  await completeRun(directory.path);
  await mkdir(join(directory.path, "tables"));
  for (const [place, state] of [
    ["tables", "it is a directory"],
    ["/dev/null", "it is not a regular file"],
  ] as const) {
    const { code, stderr, stdout } = await collect(directory.path, "run", "-o", place);
    assert.deepEqual([code, stdout], [2, ""]);
    assert.match(stderr, new RegExp(`^eval-hive: Cannot read ".*${place}": ${state}\\n.*--output`));
    const json = await collect(directory.path, "run", "-o", place, "--json");
    assert.equal(JSON.parse(json.stdout).error.code, "results.table-read");
  }
  assert.deepEqual(await readdir(join(directory.path, "tables")), []);
});
