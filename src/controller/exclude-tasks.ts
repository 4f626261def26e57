import type { Leaf, SuiteNode } from "../lmeval/task-tree.ts";
import type { LeafId } from "../run/ids.ts";
import type { Refusal } from "./refusals.ts";

/** What of lm_eval's answer is planned. */
export interface KeptTasks {
  /** Without what is left out: a suite, group or tag that has no leaf left is gone. */
  readonly suites: SuiteNode[];
  readonly leaves: Leaf[];
  readonly excluded: LeafId[];
  readonly refusals: Refusal[];
  readonly warnings: string[];
}

/**
 * Leaves out what `eval.exclude_tasks` names: ids of leaves, or names of tasks, under whatever overrides. Groups and tags
 * are refused, not expanded: a group's leaf may belong to another suite too. Pure.
 */
export function excludeTasks(
  { suites, leaves }: { readonly suites: readonly SuiteNode[]; readonly leaves: readonly Leaf[] },
  names: readonly string[],
): KeptTasks {
  const isNamed = ({ id, name }: Leaf): boolean => names.includes(id) || names.includes(name);
  const kept = leaves.filter((leaf) => !isNamed(leaf));
  const excluded = leaves.filter(isNamed).map(({ id }) => id as LeafId);
  const known = new Set(leaves.flatMap(({ id, name }) => [id, name]));
  const refusals: Refusal[] = [];
  const warnings: string[] = [];
  for (const name of new Set(names)) {
    if (known.has(name)) continue;
    const group = findNode(suites, name);
    if (group === undefined)
      warnings.push(`eval.exclude_tasks names "${name}", which no suite holds`);
    else refusals.push(refuseGroup(group));
  }
  if (kept.length === 0 && excluded.length > 0) {
    refusals.push({
      kind: "nothing-left",
      message:
        "eval.exclude_tasks names every leaf of eval.suites_and_tasks: nothing is left to evaluate",
      hint: "Take some of them out of eval.exclude_tasks.",
    });
  }
  const ids = new Set<string>(kept.map(({ id }) => id));
  return { suites: prune(suites, ids), leaves: kept, excluded, refusals, warnings };
}

function prune(nodes: readonly SuiteNode[], kept: ReadonlySet<string>): SuiteNode[] {
  return nodes.flatMap((node) => {
    if (node.leaf_id !== null) return kept.has(node.leaf_id) ? [node] : [];
    const children = prune(node.children, kept);
    const wasEmpty = node.children.length === 0;
    return children.length > 0 || wasEmpty ? [{ ...node, children }] : [];
  });
}

function findNode(nodes: readonly SuiteNode[], name: string): SuiteNode | undefined {
  for (const node of nodes) {
    if (node.name === name && node.leaf_id === null) return node;
    const inner = findNode(node.children, name);
    if (inner !== undefined) return inner;
  }
  return undefined;
}

function refuseGroup(group: SuiteNode): Refusal {
  const leaves = [...new Set(leafNames(group))];
  const shown = leaves.slice(0, 10).join(", ");
  const more = leaves.length > 10 ? ` and ${leaves.length - 10} more` : "";
  return {
    kind: "excluded-group",
    message: `eval.exclude_tasks names "${group.name}", which is a ${group.kind}: only leaves can be left out`,
    hint: `Take it out of eval.suites_and_tasks, or name its leaves: ${shown}${more}`,
  };
}

function leafNames(node: SuiteNode): string[] {
  return node.leaf_id === null ? node.children.flatMap(leafNames) : [node.name];
}
