import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { excludeTasks } from "../../src/controller/exclude-tasks.ts";
import { leafOf, nodeOf } from "../results/run-fixture.ts";

const leaf = (name: string, id = name) => nodeOf("leaf", name, [], id);
const leaves = [leafOf("a"), leafOf("b"), leafOf("b", { id: "b~5f0e11" }), leafOf("c")];
const suites = [
  nodeOf("group", "all", [
    leaf("a"),
    nodeOf("group", "inner", [leaf("b", "b~5f0e11")]),
    nodeOf("tag", "tagged", [leaf("b"), leaf("c")]),
  ]),
  leaf("b"),
];

/** What is planned, as text: `all(a inner(b~5f0e11))`. */
function kept(...names: string[]) {
  const { suites: pruned, ...rest } = excludeTasks({ suites, leaves }, names);
  const text = (node: (typeof pruned)[number]): string =>
    node.leaf_id ?? `${node.name}(${node.children.map(text).join(" ")})`;
  return { ...rest, suites: pruned.map(text).join(" "), leaves: rest.leaves.map(({ id }) => id) };
}

describe("what eval.exclude_tasks names", () => {
  test("is neither among the leaves nor in the tree, and groups that lose all go too", () => {
    assert.deepEqual(kept("b"), {
      suites: "all(a tagged(c))",
      leaves: ["a", "c"],
      excluded: ["b", "b~5f0e11"],
      refusals: [],
      warnings: [],
    });
  });

  test("may be the id of one leaf among those of one name", () => {
    const { suites: tree, excluded } = kept("b~5f0e11");
    assert.deepEqual([tree, excluded], ["all(a tagged(b c)) b", ["b~5f0e11"]]);
  });

  test("changes nothing when it is nothing", () => {
    assert.deepEqual(excludeTasks({ suites, leaves }, []).suites, suites);
  });

  test("is a warning when no suite holds it, and a refusal when it is a group or tag", () => {
    const { suites: tree, refusals, warnings } = kept("inner", "tagged", "typo");
    assert.equal(tree, "all(a inner(b~5f0e11) tagged(b c)) b");
    assert.deepEqual(warnings, ['eval.exclude_tasks names "typo", which no suite holds']);
    assert.deepEqual(
      refusals.map(({ kind, message, hint }) => [kind, message, hint]),
      [
        [
          "excluded-group",
          'eval.exclude_tasks names "inner", which is a group: only leaves can be left out',
          "Take it out of eval.suites_and_tasks, or name its leaves: b",
        ],
        [
          "excluded-group",
          'eval.exclude_tasks names "tagged", which is a tag: only leaves can be left out',
          "Take it out of eval.suites_and_tasks, or name its leaves: b, c",
        ],
      ],
    );
  });

  test("is refused when it leaves nothing to evaluate", () => {
    const { suites: tree, refusals } = kept("a", "b", "c");
    assert.deepEqual([tree, refusals.map(({ kind }) => kind)], ["", ["nothing-left"]]);
  });
});
