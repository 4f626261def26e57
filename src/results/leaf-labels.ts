/** What the plan's tree says about a leaf: the name of its rows and its parent. Pure. */
import { canonicalJson, type Json } from "../base/json.ts";
import type { Leaf, SuiteNode } from "../lmeval/task-tree.ts";
import type { LeafId } from "../run/ids.ts";
import type { Plan } from "../run/plan.ts";

export interface LeafLabel {
  /** The `task` column: the leaf's name, with a suffix only where two leaves of the run have one name. */
  readonly task: string;
  /** The first group, in config order, that has the leaf as a direct child; null when it is a suite of its own. */
  readonly parentTask: string | null;
}

/** Labels of every leaf of the plan. No two have the same `task`. */
export function labelLeaves(plan: Pick<Plan, "leaves" | "suites">): Map<LeafId, LeafLabel> {
  const parents = new Map<string, string>();
  for (const suite of plan.suites) findParents(suite, undefined, parents);
  const leaves = Object.values(plan.leaves);
  const byName = Map.groupBy(leaves, ({ name }) => name);
  return new Map(
    leaves.map((leaf) => [
      leaf.id as LeafId,
      {
        task: taskName(leaf, byName.get(leaf.name) ?? []),
        parentTask: parents.get(leaf.id) ?? null,
      },
    ]),
  );
}

/** A tag is no parent: lm_eval puts its tasks straight into the group around it. */
function findParents(
  node: SuiteNode,
  group: string | undefined,
  parents: Map<string, string>,
): void {
  if (node.leaf_id !== null) {
    if (group !== undefined && !parents.has(node.leaf_id)) parents.set(node.leaf_id, group);
    return;
  }
  const inner = node.kind === "group" ? node.name : group;
  for (const child of node.children) findParents(child, inner, parents);
}

function taskName(leaf: Leaf, namesakes: readonly Leaf[]): string {
  if (namesakes.length === 1) return leaf.name;
  const suffix = describeOverrides(leaf, namesakes);
  if (suffix === undefined) return leaf.name;
  const isUnique =
    suffix !== "" &&
    namesakes.every(
      (other) => other.id === leaf.id || describeOverrides(other, namesakes) !== suffix,
    );
  // The id ends in the hash of the overrides: for those that cannot be told apart in a few words.
  return isUnique ? `${leaf.name}[${suffix}]` : `${leaf.name}[${leaf.id.slice(-6)}]`;
}

/** `num_fewshot=5,repeats=2`: the overrides in which namesakes differ; undefined without overrides. */
function describeOverrides(leaf: Leaf, namesakes: readonly Leaf[]): string | undefined {
  if (Object.keys(leaf.overrides).length === 0) return undefined;
  const text = (of: Leaf, key: string) => canonicalJson((of.overrides[key] ?? null) as Json);
  return Object.keys(leaf.overrides)
    .sort()
    .filter((key) => namesakes.some((other) => text(other, key) !== text(leaf, key)))
    .filter((key) => text(leaf, key).length <= 20)
    .map((key) => `${key}=${text(leaf, key).replace(/^"|"$/g, "")}`)
    .join(",");
}
