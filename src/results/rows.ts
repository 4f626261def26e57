/** The rows of one leaf file. Pure: collect.ts reads the files. */
import type { ResultFile, TaskResult } from "../lmeval/result-file.ts";
import type { ManifestEntry } from "../run/manifest.ts";
import type { LeafLabel } from "./leaf-labels.ts";
import type { ScoreRow } from "./row.ts";

/** ISO 639-3 by the beginning of a task's name; the original's table, first match wins. */
const languagePrefixes = [
  ["deu_", "deu"],
  ["german_", "deu"],
  ["eng_", "eng"],
  ["fin_", "fin"],
] as const;

/** The language in the task's metadata, else what its name says; tasks that say nothing count as English. */
function languageOf(task: TaskResult): string {
  if (task.language !== null) return task.language;
  return languagePrefixes.find(([prefix]) => task.name.startsWith(prefix))?.[1] ?? "eng";
}

function formulationOf(task: TaskResult): string | null {
  switch (task.task_config.output_type) {
    case "multiple_choice":
      return "rank_choice";
    case "generate_until":
      return "generative";
    case "loglikelihood_rolling":
      return "bits_per_byte";
    case "loglikelihood":
      return task.metrics.some(({ metric }) => metric === "bits_per_byte")
        ? "bits_per_byte"
        : "rank_choice";
    default:
      return null;
  }
}

/** What a unit's rows have in common. */
export type ModelColumns = Pick<
  ScoreRow,
  | "model"
  | "step"
  | "train_batch_size"
  | "tokens_trained"
  | "model_path"
  | "is_checkpoint"
  | "model_display_name"
>;

/** Tokens and batch size follow from each other where a step is known. */
export function modelColumns(entry: ManifestEntry): ModelColumns {
  const step = entry.step === null ? null : BigInt(entry.step);
  let batchSize = entry.train_batch_size === null ? null : BigInt(entry.train_batch_size);
  let tokens = entry.tokens_trained === null ? null : BigInt(entry.tokens_trained);
  if (tokens === null && batchSize !== null && step !== null) tokens = batchSize * step;
  if (batchSize === null && tokens !== null && step !== null && step > 0n) {
    batchSize = tokens / step;
  }
  return {
    model: entry.model_key,
    step,
    train_batch_size: batchSize,
    tokens_trained: tokens,
    model_path: entry.model_path,
    is_checkpoint: step !== null,
    model_display_name: entry.display_name,
  };
}

/** The rows of one leaf: one per metric and filter, in the file's order. */
export function leafRows(
  file: ResultFile,
  task: TaskResult,
  context: { readonly model: ModelColumns; readonly label: LeafLabel; readonly path: string },
): ScoreRow[] {
  const shared = {
    task: context.label.task,
    task_type: "benchmark",
    parent_task: context.label.parentTask,
    task_display_name: task.alias,
    num_fewshot: task.num_fewshot,
    task_formulation: formulationOf(task),
    language: languageOf(task),
    n_samples: task.n_samples,
    subtask_tree: null,
    eval_date: file.eval_date,
    result_source: context.path,
    eval_config: file.eval_config,
    task_config: task.task_config,
    fingerprint: file.eval_hive.fingerprint,
    run_id: file.eval_hive.run_id,
    ...context.model,
  };
  return task.metrics.map((metric) => ({ ...shared, ...metric }));
}
