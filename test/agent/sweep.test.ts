import assert from "node:assert/strict";
import { readdir, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { sweepLeftovers } from "../../src/agent/sweep.ts";
import { temporaryDirectory } from "../support/temporary.ts";

const fp12 = "0123456789ab";
const dead = "local-p1-0000dead";
const live = "local-p2-0000beef";
const hourMs = 3_600_000;

async function fill(directory: string, names: readonly string[], ageMs: number): Promise<void> {
  const at = new Date(Date.now() - ageMs);
  for (const name of names) {
    await writeFile(join(directory, name), "{}");
    await utimes(join(directory, name), at, at);
  }
}

test("what an owner that is gone has left is swept at once, another's when it is old", async () => {
  await using directory = await temporaryDirectory();
  const { path } = directory;
  const gone = [
    `samples_a.${fp12}.${dead}.jsonl`,
    `samples_a~1b2c3d.${fp12}.${dead}.jsonl`,
    `.results_b.${fp12}.json.${dead}.123.tmp`,
    `.invalid_b.${fp12}.json.${dead}.123.tmp`,
  ];
  const old = [`samples_c.${fp12}.${live}.jsonl`, `.results_c.${fp12}.json.${live}.9.tmp`];
  const young = [`samples_d.${fp12}.${live}.jsonl`, `.results_d.${fp12}.json.${live}.9.tmp`];
  await fill(path, gone, 0);
  await fill(path, old, 2 * hourMs);
  await fill(path, young, hourMs / 2);
  const removed = await sweepLeftovers(path, {
    now: Date.now(),
    isGone: (owner) => owner === dead,
  });
  assert.deepEqual(removed.sort(), [...gone, ...old].sort());
  assert.deepEqual((await readdir(path)).sort(), young.sort());
});

test("samples that a leaf file names stay, and so does all that is not ours", async () => {
  await using directory = await temporaryDirectory();
  const { path } = directory;
  const named = `samples_a.${fp12}.${dead}.jsonl`;
  const loser = `samples_a.${fp12}.${live}.jsonl`;
  const foreign = [
    `results_a.${fp12}.json`,
    `invalid_b.${fp12}.json`,
    "samples_arc_easy_2024-01-01T00-00-00.000000.jsonl",
    "results_2024-01-01T00-00-00.000000.json",
    "notes.txt",
    ".hidden",
  ];
  await fill(path, [named, loser, ...foreign], 2 * hourMs);
  const result = { eval_hive: { samples: { file: named } } };
  await writeFile(join(path, `results_a.${fp12}.json`), JSON.stringify(result, undefined, 2));
  const invalid = { eval_hive: { invalid: "why", samples: { file: `samples_b.${fp12}.x.jsonl` } } };
  await writeFile(join(path, `invalid_b.${fp12}.json`), JSON.stringify(invalid));
  await fill(path, [`samples_b.${fp12}.x.jsonl`], 2 * hourMs);
  const removed = await sweepLeftovers(path, { now: Date.now(), isGone: () => true });
  assert.deepEqual(removed, [loser]);
});

test("a unit that has no directory yet has nothing to sweep", async () => {
  const options = { now: 0, isGone: () => true };
  assert.deepEqual(await sweepLeftovers("/no/such/directory", options), []);
});
