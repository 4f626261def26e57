import assert from "node:assert/strict";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import fc from "fast-check";
import { coverageOf, indexLeafFiles, readCoverage } from "../../src/run/coverage.ts";
import type { Fingerprint, LeafId } from "../../src/run/ids.ts";
import { invalidFileName, leafDirectory, leafFileName } from "../../src/run/layout.ts";
import { temporaryDirectory } from "../support/temporary.ts";

const fingerprint = (digit: string) => `fp1:${digit.repeat(64)}` as Fingerprint;
const leaf = (name: string) => name as LeafId;
const leaves = {
  [leaf("arc_easy")]: fingerprint("a"),
  [leaf("arc")]: fingerprint("b"),
  [leaf("mmlu_law~0123ab")]: fingerprint("c"),
};
const index = indexLeafFiles(leaves);

test("a leaf is covered by the file of its own name and fingerprint alone", () => {
  const names = [
    leafFileName(leaf("arc_easy"), fingerprint("a")),
    // Another fingerprint, another tool, samples, temporary files: nothing of this plan.
    leafFileName(leaf("arc"), fingerprint("f")),
    "results_2026-11-24T04-00-00.json",
    `samples_arc.${"b".repeat(12)}.local-p1-0.jsonl`,
    `.${leafFileName(leaf("arc"), fingerprint("b"))}.0123456789ab.tmp`,
    invalidFileName(leaf("mmlu_law~0123ab"), fingerprint("c")),
  ];
  const { done, invalid } = coverageOf(names, index);
  assert.deepEqual([...done], ["arc_easy"]);
  assert.deepEqual([...invalid], ["mmlu_law~0123ab"]);
});

test("a valid result wins over an invalid one, in any order of names", () => {
  const both = [
    invalidFileName(leaf("arc"), fingerprint("b")),
    leafFileName(leaf("arc"), fingerprint("b")),
  ];
  fc.assert(
    fc.property(fc.shuffledSubarray(both, { minLength: 2 }), (names) => {
      const { done, invalid } = coverageOf(names, index);
      assert.deepEqual([[...done], [...invalid]], [["arc"], []]);
    }),
  );
});

test("units without a directory cover nothing; contents do not matter", async () => {
  await using scratch = await temporaryDirectory();
  const entry = { model_key: "m", label: "main" };
  const directory = leafDirectory(scratch.path, entry);
  await mkdir(directory, { recursive: true });
  await writeFile(join(directory, leafFileName(leaf("arc"), fingerprint("b"))), "not JSON");
  const found = await readCoverage(scratch.path, entry, leaves);
  assert.deepEqual([...found.done, ...found.invalid], ["arc"]);
  const none = await readCoverage(scratch.path, { model_key: "n", label: "main" }, leaves);
  assert.deepEqual([...none.done, ...none.invalid], []);
});
