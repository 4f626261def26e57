import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import fc from "fast-check";
import type { Harness } from "../../src/lmeval/harness.ts";
import type { RunLeaf } from "../../src/lmeval/protocol.ts";
import {
  comparable,
  type LeafResult,
  ofType,
  type RunSettings,
  readResult,
  runBatch,
} from "./evaluations.ts";

/** Flags of `lm_eval run` that say what these arguments of a config say. */
export function plainArguments(
  model: string,
  modelArgs: Readonly<Record<string, unknown>>,
  ...more: readonly string[]
): string[] {
  const text = Object.entries(modelArgs).map(([key, value]) => `${key}=${value}`);
  return ["--model", model, "--model_args", text.join(","), "--log_samples", ...more];
}

/** Writes a task file that says alone what a group's overrides make of a leaf. @returns its folder. */
export async function writeLeafAlone(leaf: RunLeaf, directory: string): Promise<string> {
  const values = { include: leaf.source.yaml_path, task: leaf.name, ...leaf.overrides };
  await writeFile(join(directory, `${leaf.id}.yaml`), JSON.stringify(values));
  return directory;
}

export interface BatchesToCompare {
  readonly harness: Harness;
  readonly leaves: readonly RunLeaf[];
  /** What plain lm_eval makes of each leaf alone, by id. */
  readonly plain: Readonly<Record<string, LeafResult>>;
  /** The request for a batch, but for its leaves. */
  readonly settings: (leaves: readonly RunLeaf[]) => RunSettings | Promise<RunSettings>;
  /** How many orders and sizes to try. */
  readonly rounds: number;
}

/** Evaluates the leaves in batches of several sizes and orders: every file has to say what plain lm_eval says. */
export async function assertEqualScores(options: BatchesToCompare): Promise<void> {
  const { leaves, plain, rounds } = options;
  await fc.assert(
    fc.asyncProperty(
      fc.shuffledSubarray([...leaves], { minLength: leaves.length }),
      fc.integer({ min: 1, max: leaves.length }),
      async (order, size) => {
        for (const batch of batchesOf(order, size)) {
          const got = await evaluate(options, batch);
          for (const leaf of batch) {
            const [ours, theirs] = [got[leaf.id], plain[leaf.id]].map((result) =>
              shown(result as LeafResult, leaf),
            );
            assert.deepEqual(ours, theirs, leaf.id);
          }
        }
      },
    ),
    { seed: 20261124, numRuns: rounds, endOnFailure: true },
  );
}

/** Leaves of one name are never in one batch. */
function batchesOf(order: readonly RunLeaf[], size: number): RunLeaf[][] {
  const batches: RunLeaf[][] = [];
  for (const leaf of order) {
    const open = batches.find(
      (batch) => batch.length < size && batch.every(({ name }) => name !== leaf.name),
    );
    if (open === undefined) batches.push([leaf]);
    else open.push(leaf);
  }
  return batches;
}

async function evaluate(
  { harness, settings }: BatchesToCompare,
  batch: readonly RunLeaf[],
): Promise<Record<string, LeafResult>> {
  const { messages, ended } = await runBatch(harness, await settings(batch));
  assert.deepEqual(ofType(messages, "leaf_failed"), []);
  assert.deepEqual(ofType(messages, "error"), []);
  assert.equal(ended.exit_code, 0);
  const results: Record<string, LeafResult> = {};
  for (const done of ofType(messages, "leaf_done")) {
    results[done.leaf] = await readResult(done.path, done.samples_path ?? undefined);
  }
  assert.deepEqual(
    Object.keys(results),
    batch.map(({ id }) => id),
  );
  return results;
}

/** A leaf with overrides comes from another file when it is alone. */
function shown(result: LeafResult, leaf: RunLeaf): unknown {
  const text = JSON.stringify(comparable(result));
  if (Object.keys(leaf.overrides).length === 0) return JSON.parse(text);
  return JSON.parse(text, (key, value) => (key === "config_source" ? undefined : value));
}
