import { sha256 } from "../base/hash.ts";
import type { Leaf } from "../lmeval/task-tree.ts";
import type { Batch } from "../queue/queue.ts";
import type { BatchId, Fingerprint, LeafId, UnitId } from "../run/ids.ts";

/** A leaf that is to be evaluated for a unit. */
export interface OpenLeaf {
  readonly leaf: Leaf;
  readonly fingerprint: Fingerprint;
}

export interface BatchRules {
  readonly unit: UnitId;
  readonly generation: number;
  /** `task_batch_size: null`: leaf after leaf as the config names them, one per batch. */
  readonly inConfigOrder: boolean;
}

/** The forked child makes small batches cheap; more entries than this make a unit's directory slow to list. */
const maxBatchesPerUnit = 256;

/**
 * Cuts open leaves into the smallest batches that keep a unit within 256, longest expected first. Leaves that must not
 * share a process are in different batches: those of one Python class (its class-level config is shared) and those of one
 * name with other overrides (lm_eval refuses a name twice).
 * @param open units with the same leaves to do had better share one array: it is cut once
 */
export function cutBatches(open: readonly OpenLeaf[], rules: BatchRules): Batch[] {
  // Hashed in two parts: a hash for each batch of each unit would be a sixth of all planning.
  const prefix = sha256(`${rules.unit}\n${rules.generation}`).slice(0, 8);
  return groupsOf(open, rules.inConfigOrder).map(({ leaves, digest }) => ({
    id: `${prefix}${digest}` as BatchId,
    leaves,
  }));
}

/** The leaves of a batch of any unit. */
interface Group {
  readonly leaves: readonly LeafId[];
  /** Of their fingerprints: enough digits that a few hundred do not meet. */
  readonly digest: string;
}

const inConfigOrder = new WeakMap<readonly OpenLeaf[], Group[]>();
const longestFirst = new WeakMap<readonly OpenLeaf[], Group[]>();

function groupsOf(open: readonly OpenLeaf[], isInConfigOrder: boolean): readonly Group[] {
  const known = isInConfigOrder ? inConfigOrder : longestFirst;
  let groups = known.get(open);
  if (groups === undefined) {
    groups = group(open, isInConfigOrder).map((members) => ({
      leaves: members.map(({ leaf }) => leaf.id as LeafId),
      digest: sha256(members.map(({ fingerprint }) => fingerprint).join("\n")).slice(0, 12),
    }));
    known.set(open, groups);
  }
  return groups;
}

function group(open: readonly OpenLeaf[], isInConfigOrder: boolean): (readonly OpenLeaf[])[] {
  if (isInConfigOrder) return open.map((leaf) => [leaf]);
  return distribute(
    open.toSorted((a, b) => expectedCost(b.leaf) - expectedCost(a.leaf)),
    Math.ceil(open.length / maxBatchesPerUnit),
  );
}

function distribute(ordered: readonly OpenLeaf[], size: number): OpenLeaf[][] {
  const groups: OpenLeaf[][] = [];
  const unfilled: { members: OpenLeaf[]; keys: Set<string> }[] = [];
  for (const open of ordered) {
    const keys = exclusiveKeys(open.leaf);
    const at = unfilled.findIndex((group) => keys.every((key) => !group.keys.has(key)));
    const group = unfilled[at] ?? { members: [], keys: new Set<string>() };
    if (at < 0) {
      unfilled.push(group);
      groups.push(group.members);
    }
    group.members.push(open);
    for (const key of keys) group.keys.add(key);
    if (group.members.length >= size) unfilled.splice(unfilled.indexOf(group), 1);
  }
  return groups;
}

function exclusiveKeys(leaf: Leaf): string[] {
  return leaf.python_class === null
    ? [`name:${leaf.name}`]
    : [`name:${leaf.name}`, `class:${leaf.python_class}`];
}

/**
 * How long a leaf may take, as a number to sort by. Without the data sets in hand only its kind is known: generations
 * cost a decoding step per token, few-shot examples make prompts longer.
 */
export function expectedCost(leaf: Leaf): number {
  const prompt = 1 + leaf.num_fewshot;
  switch (leaf.output_type) {
    case "generate_until":
      return (10 * prompt + (leaf.max_gen_toks ?? 256)) * leaf.repeats;
    case "multiple_choice":
      return 4 * prompt;
    case "loglikelihood_rolling":
      return 16;
    default:
      return prompt;
  }
}
