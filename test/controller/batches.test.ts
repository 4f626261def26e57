import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { cutBatches, type OpenLeaf } from "../../src/controller/batches.ts";
import type { Leaf } from "../../src/lmeval/task-tree.ts";
import type { Fingerprint, UnitId } from "../../src/run/ids.ts";

const rules = { unit: "m--main" as UnitId, generation: 0, inConfigOrder: false };

function openLeaf(id: string, parts: Partial<Leaf> = {}): OpenLeaf {
  const leaf = {
    id,
    name: id,
    output_type: "multiple_choice",
    num_fewshot: 0,
    max_gen_toks: null,
    repeats: 1,
    python_class: null,
    ...parts,
  } as Leaf;
  return { leaf, fingerprint: `fp1:${id}` as Fingerprint };
}

describe("cutBatches", () => {
  test("gives each leaf a batch of its own up to 256 leaves", () => {
    const batches = cutBatches(
      Array.from({ length: 256 }, (_, i) => openLeaf(`t${i}`)),
      rules,
    );
    assert.equal(batches.length, 256);
  });

  test("puts what is expected to take longest first", () => {
    const batches = cutBatches(
      [openLeaf("mc"), openLeaf("gen", { output_type: "generate_until", max_gen_toks: 1024 })],
      rules,
    );
    assert.deepEqual(
      batches.flatMap(({ leaves }) => leaves),
      ["gen", "mc"],
    );
  });

  test("keeps the config's order, one leaf per batch, where the config asks for it", () => {
    const open = Array.from({ length: 300 }, (_, i) => openLeaf(`t${i}`, { num_fewshot: i % 7 }));
    const batches = cutBatches(open, { ...rules, inConfigOrder: true });
    assert.deepEqual(
      batches.map(({ leaves }) => leaves),
      open.map(({ leaf }) => [leaf.id]),
    );
  });

  test("loses no leaf, repeats none, and never puts two of one name or class together", () => {
    const leaf = fc.record({
      name: fc.integer({ min: 0, max: 400 }),
      python: fc.option(fc.integer({ min: 0, max: 5 }), { nil: undefined, freq: 4 }),
    });
    fc.assert(
      // By default fast-check makes ten: few enough for a batch each.
      fc.property(fc.array(leaf, { maxLength: 1200, size: "max" }), (specs) => {
        const open = specs.map(({ name, python }, i) =>
          openLeaf(`t${name}~${i}`, {
            name: `t${name}`,
            python_class: python === undefined ? null : `C${python}`,
          }),
        );
        const byId = new Map(open.map(({ leaf }) => [leaf.id as string, leaf]));
        const batches = cutBatches(open, rules);
        assert.deepEqual(batches.flatMap(({ leaves }) => leaves).sort(), [...byId.keys()].sort());
        assert.equal(new Set(batches.map(({ id }) => id)).size, batches.length);
        for (const batch of batches) {
          assert.ok(batch.leaves.length <= Math.max(1, Math.ceil(open.length / 256)));
          const leaves = batch.leaves.map((id) => byId.get(id) as Leaf);
          const classes = leaves.flatMap(({ python_class }) => python_class ?? []);
          assert.equal(new Set(leaves.map(({ name }) => name)).size, leaves.length);
          assert.equal(new Set(classes).size, classes.length);
        }
      }),
      // What fails is not made smaller: that would take minutes.
      { numRuns: 50, endOnFailure: true },
    );
  });
});
