import { UsageError } from "../base/errors.ts";
import { nearestName } from "../base/nearest.ts";
import type { LeafId } from "./ids.ts";
import type { Plan } from "./plan.ts";

/** Thrown for a unit or leaf that a run does not have; guesses what was meant. */
export class UnknownNameError extends UsageError {
  constructor(kind: "unit" | "leaf", name: string, known: Iterable<string>) {
    const near = nearestName(name, known);
    super("run.unknown-name", `Cannot find ${kind} "${name}": the run has none`, {
      hint: near === undefined ? "See `eval-hive status --detailed`." : `Did you mean "${near}"?`,
    });
  }
}

/** @param more units that the plan had once. @throws {UnknownNameError} */
export function assertUnits(
  { units }: Plan,
  names: readonly string[],
  more: Iterable<string> = [],
): void {
  assertKnown("unit", names, [...units.map(({ id }) => id), ...more]);
}

/**
 * Which leaves are meant by ids, or by names of tasks.
 * @param more ids that the plan had once. @throws {UnknownNameError}
 */
export function leavesNamed(
  { leaves }: Plan,
  names: readonly string[],
  more: Iterable<string> = [],
): (leaf: string) => boolean {
  assertKnown("leaf", names, [
    ...Object.values(leaves).flatMap(({ id, name }) => [id, name]),
    ...more,
  ]);
  return (leaf) => names.includes(leaf) || names.includes(leaves[leaf as LeafId]?.name ?? leaf);
}

function assertKnown(
  kind: "unit" | "leaf",
  names: readonly string[],
  all: readonly string[],
): void {
  const known = new Set(all);
  for (const name of names) if (!known.has(name)) throw new UnknownNameError(kind, name, known);
}
