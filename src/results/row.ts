import type { EvalConfig, TaskConfig } from "../lmeval/result-file.ts";

/** What a column holds. Integers are bigint throughout: training tokens exceed 2^53. Every column may be null. */
export type ColumnType = "text" | "int64" | "float64" | "boolean";

export interface StructType {
  readonly [field: string]: ColumnType;
}

/** Columns of `eval_config`, in order. */
const evalConfigColumns = {
  lm_eval_version: "text",
  git_hash: "text",
  transformers_version: "text",
  model_name: "text",
  model_source: "text",
  max_length: "int64",
  total_eval_time_seconds: "float64",
  tokenizer_pad_token: "text",
  tokenizer_eos_token: "text",
  tokenizer_bos_token: "text",
  eot_token_id: "int64",
  chat_template: "text",
  chat_template_sha: "text",
  system_instruction: "text",
  system_instruction_sha: "text",
} as const satisfies Record<keyof EvalConfig, ColumnType>;

/** Columns of `task_config`, in order. */
const taskConfigColumns = {
  task_version: "text",
  task_hash: "text",
  dataset_path: "text",
  output_type: "text",
  dataset_name: "text",
  repeats: "int64",
  doc_to_text: "text",
  doc_to_target: "text",
  doc_to_choice: "text",
  generation_kwargs: "text",
  should_decontaminate: "boolean",
} as const satisfies Record<keyof TaskConfig, ColumnType>;

/**
 * scores.parquet: all columns in order. Those up to `model_display_name` are eval-hive 0.1's, in its order and with its
 * types; new ones come after them, never between.
 */
export const scoreColumns = {
  model: "text",
  /** Training step; null: the final model. */
  step: "int64",
  task: "text",
  metric: "text",
  metric_filter: "text",
  score: "float64",
  score_stderr: "float64",
  /** eval_suite, task_group, benchmark. */
  task_type: "text",
  parent_task: "text",
  task_display_name: "text",
  num_fewshot: "int64",
  /** rank_choice, generative, bits_per_byte. */
  task_formulation: "text",
  higher_is_better: "boolean",
  /** ISO 639-3. */
  language: "text",
  n_samples: "int64",
  /** JSON: group → children; null for benchmarks. */
  subtask_tree: "text",
  /** Tokens per step. */
  train_batch_size: "int64",
  tokens_trained: "int64",
  /** ISO 8601, UTC. */
  eval_date: "text",
  /** Absolute path of the result file. */
  result_source: "text",
  eval_config: evalConfigColumns,
  task_config: taskConfigColumns,
  model_path: "text",
  is_checkpoint: "boolean",
  model_display_name: "text",
  /** What the score depends on: `fp1:` and 64 hex digits. */
  fingerprint: "text",
  /** The run that evaluated it. */
  run_id: "text",
} as const satisfies Record<string, ColumnType | StructType>;

type Values = { text: string; int64: bigint; float64: number; boolean: boolean };

type ValueOf<C> = C extends ColumnType
  ? Values[C]
  : { readonly [F in keyof C]: C[F] extends ColumnType ? Values[C[F]] | null : never };

/** One row of scores.parquet. */
export type ScoreRow = {
  readonly [C in keyof typeof scoreColumns]: ValueOf<(typeof scoreColumns)[C]> | null;
};

/** The columns that identify a row. */
export const keyColumns = ["model", "step", "task", "metric", "metric_filter"] as const;

export type ScoreKey = Pick<ScoreRow, (typeof keyColumns)[number]>;

/** By UTF-8 bytes, as parquet's statistics and Polars compare: UTF-16 code units put surrogates too early. */
function compareText(a: string, b: string): number {
  const length = Math.min(a.length, b.length);
  for (let at = 0; at < length; at++) {
    const [x, y] = [a.charCodeAt(at), b.charCodeAt(at)];
    if (x === y) continue;
    const [xHigh, yHigh] = [x >= 0xd800 && x < 0xe000, y >= 0xd800 && y < 0xe000];
    return xHigh === yHigh ? x - y : xHigh ? 1 : -1;
  }
  return a.length - b.length;
}

function compareValue(a: string | bigint | null, b: string | bigint | null): number {
  if (a === null || b === null) return a === b ? 0 : a === null ? -1 : 1;
  if (typeof a === "string" && typeof b === "string") return compareText(a, b);
  return a < b ? -1 : a > b ? 1 : 0;
}

/** The table's order: by key, nulls first. */
export function compareKeys(a: ScoreKey, b: ScoreKey): number {
  for (const column of keyColumns) {
    const order = compareValue(a[column], b[column]);
    if (order !== 0) return order;
  }
  return 0;
}
