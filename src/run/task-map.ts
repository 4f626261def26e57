import type { SuiteNode } from "../lmeval/task-tree.ts";

/** Endings that the original sorts to the front, in this order. */
const rankedEndings = ["code", "cot", "gen", "mc", "rc"];

/** eh_task_map.json: suite → leaf names, depth first, duplicates inside a suite kept, in the original's order. */
export function taskMap(suites: readonly SuiteNode[]): Record<string, string[]> {
  return Object.fromEntries(
    suites.map((suite) => [suite.name, leafNames(suite).sort(byEndingThenName)]),
  );
}

function leafNames(node: SuiteNode): string[] {
  return node.kind === "leaf" ? [node.name] : node.children.flatMap(leafNames);
}

function byEndingThenName(a: string, b: string): number {
  const endings = [ending(a), ending(b)] as const;
  return rank(endings[0]) - rank(endings[1]) || compare(endings[0], endings[1]) || compare(a, b);
}

function ending(name: string): string {
  return name.slice(name.lastIndexOf("_") + 1);
}

function rank(ending: string): number {
  const at = rankedEndings.indexOf(ending);
  return at < 0 ? rankedEndings.length : at;
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
