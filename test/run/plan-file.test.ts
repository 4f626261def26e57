import assert from "node:assert/strict";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { RunLayout } from "../../src/run/layout.ts";
import { RunDirectoryError, readPlan } from "../../src/run/plan-file.ts";
import { makeSyntheticRun } from "../support/synthetic-run.ts";
import { temporaryDirectory } from "../support/temporary.ts";

test("a plan of an eval-hive that did not know a setting yet is read with what it did then", async () => {
  await using directory = await temporaryDirectory();
  const { layout, plan } = await makeSyntheticRun({
    directory: directory.path,
    units: 1,
    leaves: 1,
  });
  const stored = JSON.parse(await readFile(layout.plan, "utf8"));
  for (const key of ["phase_timeout_s", "engine"]) delete stored.profiles.default[key];
  await writeFile(layout.plan, JSON.stringify(stored));
  assert.deepEqual(await readPlan(layout), plan);
});

test("a plan of another schema is named as such", async () => {
  await using directory = await temporaryDirectory();
  const { layout } = await makeSyntheticRun({ directory: directory.path, units: 1, leaves: 1 });
  const stored = JSON.parse(await readFile(layout.plan, "utf8"));
  await writeFile(layout.plan, JSON.stringify({ ...stored, schema_version: 2 }));
  await assert.rejects(readPlan(layout), (error) => {
    assert(error instanceof RunDirectoryError);
    assert.match(error.message, /it has schema_version 2, this eval-hive reads 1$/);
    return true;
  });
});

test("what is no run directory is described, with the way to one", async () => {
  await using directory = await temporaryDirectory();
  const within = (name: string) => join(directory.path, name);
  await mkdir(within("empty"));
  await mkdir(within("foreign"));
  await writeFile(within("foreign/eh_manifest.json"), "{}");
  await writeFile(within("config.yaml"), "");
  const cases = [
    ["nowhere", "run.missing", /nowhere": there is no such directory$/, /eval-hive run CONFIG$/],
    ["empty", "run.missing", /empty": no eh_plan\.json there$/, /eval-hive run CONFIG$/],
    ["config.yaml", "run.missing", /config\.yaml": it is a file$/, /not the config/],
    ["foreign", "run.foreign", /foreign": it has no plan$/, /the Python eval-hive/],
  ] as const;
  for (const [name, code, message, hint] of cases) {
    await assert.rejects(readPlan(new RunLayout(within(name))), (error) => {
      assert(error instanceof RunDirectoryError);
      assert.deepEqual([error.code, error.exitCode], [code, 2]);
      assert.match(error.message, message);
      assert.match(error.hint ?? "", hint);
      return true;
    });
  }
});
