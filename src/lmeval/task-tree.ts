/** Suites, groups and leaves as lm_eval builds them; the harness tells them, the plan keeps them. */
import * as z from "zod";

const jsonObject = z.record(z.string(), z.unknown());

/** How a leaf is found again without an index. */
export const LeafSource = z.strictObject({
  /**
   * `task`: a YAML file. `python`: a YAML file that names a class. `inline`: written out inside the group file
   * `yaml_path`; `overrides` then hold the whole config.
   */
  kind: z.enum(["task", "python", "inline"]),
  yaml_path: z.string(),
});

/** One lm_eval task that yields scores, with the overrides that a group applies to it. */
export const Leaf = z.strictObject({
  /** Name, plus `~{hash6}` with overrides; unsafe characters for file names are replaced. */
  id: z.string(),
  name: z.string(),
  source: LeafSource,
  /** Keys that groups lay over the task's own config, outermost last applied, as lm_eval merges them. */
  overrides: jsonObject,
  output_type: z.string().nullable(),
  dataset: z.strictObject({ path: z.string().nullable(), name: z.string().nullable() }),
  /**
   * Effective: the task's own, the group's, or the command line's; null in lm_eval counts as 0. Here and in
   * `generation_kwargs` the command line counts if all profiles agree on it; the fingerprints know each profile's own.
   */
  num_fewshot: z.int(),
  max_gen_toks: z.int().nullable(),
  generation_kwargs: jsonObject.nullable(),
  repeats: z.int(),
  filters: z.array(z.string()),
  metrics: z.array(
    z.strictObject({
      metric: z.string(),
      aggregation: z.string().nullable(),
      higher_is_better: z.boolean().nullable(),
    }),
  ),
  /** Runs generated code: needs `confirm_run_unsafe_code`. */
  unsafe_code: z.boolean(),
  /** `file:Class` of a `python` leaf: two leaves of one class never share a child. */
  python_class: z.string().nullable(),
  version: z.union([z.string(), z.number()]).nullable(),
  /** The task's part of the fingerprint: the same for every profile. */
  inputs: jsonObject,
});
export type Leaf = z.output<typeof Leaf>;

export interface GroupAggregation {
  metric: string;
  filter_list: string[] | null;
  weight_by_size: boolean;
}

/** A suite as lm_eval builds it: tags flattened and sorted, duplicates kept. */
export interface SuiteNode {
  /** A leaf's name, or the group's or tag's (inline subgroups: `parent::name`). */
  name: string;
  kind: "leaf" | "group" | "tag";
  /** Set for leaves: the id of the leaf in `leaves`. */
  leaf_id: string | null;
  alias: string | null;
  version: string | number | null;
  children: SuiteNode[];
  aggregation: GroupAggregation[];
  /** Names among the children that lm_eval does not know. */
  missing: string[];
}

export const SuiteNode: z.ZodType<SuiteNode> = z.strictObject({
  name: z.string(),
  kind: z.enum(["leaf", "group", "tag"]),
  leaf_id: z.string().nullable(),
  alias: z.string().nullable(),
  version: z.union([z.string(), z.number()]).nullable(),
  get children() {
    return z.array(SuiteNode);
  },
  aggregation: z.array(
    z.strictObject({
      metric: z.string(),
      filter_list: z.array(z.string()).nullable(),
      weight_by_size: z.boolean(),
    }),
  ),
  missing: z.array(z.string()),
});
