import assert from "node:assert/strict";
import { test } from "node:test";
import type { SuiteNode } from "../../src/lmeval/task-tree.ts";
import { taskMap } from "../../src/run/task-map.ts";

function node(name: string, children: SuiteNode[] = []): SuiteNode {
  const kind = children.length === 0 ? "leaf" : "group";
  return {
    name,
    kind,
    leaf_id: null,
    alias: null,
    version: null,
    children,
    aggregation: [],
    missing: [],
  };
}

test("a suite's leaves are listed depth first, with duplicates, in the original's order", () => {
  const suite = node("main", [
    node("inner", [node("b_rc"), node("a_mc"), node("z")]),
    node("a_mc"),
    node("m_code"),
    node("a_x"),
  ]);
  assert.deepEqual(taskMap([suite]), { main: ["m_code", "a_mc", "a_mc", "b_rc", "a_x", "z"] });
});
