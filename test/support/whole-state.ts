import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { parsePythonJson } from "../../src/base/json.ts";
import type { SmallPlace } from "./small-run.ts";

/**
 * All that a reader of the run or its results would take for state is whole: no leaf file, spec, plan, strike or summary
 * that is empty or torn. Names with a dot in front are nobody's.
 */
export async function assertStateIsWhole({ layout, results }: SmallPlace): Promise<void> {
  for (const path of await filesBelow(layout.directory)) {
    const isRecord = path.includes("/strikes/") || path.includes("/run-owner/");
    if (!path.endsWith(".json") && !isRecord) continue;
    const text = await readFile(path, "utf8");
    // Of the records of who is at work a number stands in front and behind.
    const json = path.includes("/run-owner/")
      ? text.slice(text.indexOf("{"), text.lastIndexOf("}") + 1)
      : text;
    assert.doesNotThrow(() => JSON.parse(json), `torn: ${path}`);
  }
  for (const path of await filesBelow(results)) {
    if (/\/(results|invalid)_[^/]*\.json$/.test(path)) await assertResultIsWhole(path);
  }
}

/** The result of a leaf is whole, and so are the samples that it names. */
async function assertResultIsWhole(path: string): Promise<void> {
  const result = parsePythonJson(await readFile(path, "utf8")) as {
    results: object;
    eval_hive: { samples: { file: string; size_bytes: number; sha256: string } | null };
  };
  assert.ok(Object.keys(result.results).length > 0, path);
  const { samples } = result.eval_hive;
  if (samples === null) return;
  const content = await readFile(join(path, "..", samples.file));
  const sha256 = createHash("sha256").update(content).digest("hex");
  assert.deepEqual([content.length, sha256], [samples.size_bytes, samples.sha256], path);
}

/** Each leaf of unit `small-n` has one result with its samples, and nothing else lies there. */
export async function assertTidyResults(
  { results }: Pick<SmallPlace, "results">,
  leaves: number,
  unit = 0,
): Promise<void> {
  const directory = join(results, `small-${unit}`, "main/eval-hive");
  const names = await readdir(directory);
  const files = names.filter((name) => name.startsWith("results_"));
  assert.equal(files.length, leaves);
  const samples: string[] = [];
  for (const name of files) {
    const text = await readFile(join(directory, name), "utf8");
    const { eval_hive } = parsePythonJson(text) as { eval_hive: { samples: { file: string } } };
    samples.push(eval_hive.samples.file);
  }
  assert.deepEqual(names.sort(), [...files, ...samples].sort());
}

async function filesBelow(directory: string): Promise<string[]> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true }).catch(
    () => [],
  );
  return entries
    .filter((entry) => entry.isFile() && !entry.name.startsWith("."))
    .map((entry) => join(entry.parentPath, entry.name));
}
