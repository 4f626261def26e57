/**
 * lm_eval's result files, versions 0.4.12 and 0.4.13 (lm_eval/result_schema.py, loggers/evaluation_tracker.py). Each
 * field is read on its own: one of an unexpected type becomes null instead of losing the file.
 */
import { parsePythonJson } from "../base/json.ts";
import { pythonIsoDate } from "./python-date.ts";
import { pythonJsonText, pythonText, rawJsonMember } from "./raw-json.ts";

/** One score of a task: a metric after a filter pipeline. */
export interface Metric {
  readonly metric: string;
  readonly metric_filter: string;
  /** NaN and infinities stay; null: lm_eval gave no number. */
  readonly score: number | null;
  readonly score_stderr: number | null;
  readonly higher_is_better: boolean | null;
}

/** How a task was prompted and scored; texts as Python prints them. */
export interface TaskConfig {
  readonly task_version: string | null;
  readonly task_hash: string | null;
  readonly dataset_path: string | null;
  readonly output_type: string | null;
  readonly dataset_name: string | null;
  readonly repeats: bigint | null;
  readonly doc_to_text: string | null;
  readonly doc_to_target: string | null;
  /** JSON, when it is a list. */
  readonly doc_to_choice: string | null;
  /** JSON. */
  readonly generation_kwargs: string | null;
  readonly should_decontaminate: boolean | null;
}

/** What holds for the whole file. */
export interface EvalConfig {
  readonly lm_eval_version: string | null;
  readonly git_hash: string | null;
  readonly transformers_version: string | null;
  readonly model_name: string | null;
  readonly model_source: string | null;
  readonly max_length: bigint | null;
  readonly total_eval_time_seconds: number | null;
  readonly tokenizer_pad_token: string | null;
  readonly tokenizer_eos_token: string | null;
  readonly tokenizer_bos_token: string | null;
  readonly eot_token_id: bigint | null;
  readonly chat_template: string | null;
  readonly chat_template_sha: string | null;
  readonly system_instruction: string | null;
  readonly system_instruction_sha: string | null;
}

export interface TaskResult {
  readonly name: string;
  readonly alias: string;
  readonly num_fewshot: bigint | null;
  /** Documents that were scored, after `limit`. */
  readonly n_samples: bigint | null;
  /** The `language` of the task's own metadata. */
  readonly language: string | null;
  readonly task_config: TaskConfig;
  /** In the file's order. */
  readonly metrics: readonly Metric[];
}

export interface ResultFile {
  /** ISO 8601, UTC, with microseconds: when the evaluation started. */
  readonly eval_date: string | null;
  readonly eval_config: EvalConfig;
  /** Our own block: what tells a leaf file from other results. */
  readonly eval_hive: {
    readonly fingerprint: string | null;
    readonly run_id: string | null;
    /** null: no server; undefined: not recorded. */
    readonly server_command_sha256: string | null | undefined;
  };
  /** Tasks with scores of their own, by name: groups are not among them. */
  readonly tasks: ReadonlyMap<string, TaskResult>;
}

type Fields = Readonly<Record<string, unknown>>;

function fieldsOf(value: unknown): Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value)
    ? (value as Fields)
    : {};
}

/** Task names may be `constructor` or the like: only the document's own members count. */
function member(fields: unknown, key: string): unknown {
  const object = fieldsOf(fields);
  return Object.hasOwn(object, key) ? object[key] : undefined;
}

function textOf(value: unknown): string | null {
  return typeof value === "string" ? value : null;
}

function booleanOf(value: unknown): boolean | null {
  return typeof value === "boolean" ? value : null;
}

/** An integer that fits 64 bits; whole floats count. Tokenizers without a limit report 1e30 as max_length: null. */
function integerOf(value: unknown): bigint | null {
  if (typeof value !== "number" || !Number.isInteger(value)) return null;
  const integer = BigInt(value);
  return BigInt.asIntN(64, integer) === integer ? integer : null;
}

const numericWords: Readonly<Record<string, number>> = {
  nan: Number.NaN,
  inf: Number.POSITIVE_INFINITY,
  "-inf": Number.NEGATIVE_INFINITY,
  True: 1,
  False: 0,
};

/** A number. lm_eval before 0.4.13 saves numpy's scalars as text ("0.25", "nan", "True"); "N/A" is none. */
function numberOf(value: unknown): number | null {
  if (typeof value === "number") return value;
  if (typeof value === "boolean") return value ? 1 : 0;
  if (typeof value !== "string") return null;
  if (/^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(value)) return Number(value);
  return Object.hasOwn(numericWords, value) ? (numericWords[value] ?? null) : null;
}

/** Lengths that a RULER task did not evaluate are -1 under a name of digits (tasks/ruler/common_utils.py). */
function isNoScore(metric: string, score: number | null): boolean {
  // `bypass` is what predict_only puts in place of every metric; its value is always 999.
  return metric === "bypass" || (score === -1 && /^\d+$/.test(metric));
}

/** Keys are `metric,filter`; a filter's name may hold commas, a metric's may not. `name`, `alias`, `sample_len` have none. */
function readMetrics(scores: Fields, higherIsBetter: unknown): Metric[] {
  const metrics: Metric[] = [];
  for (const [key, value] of Object.entries(scores)) {
    const comma = key.indexOf(",");
    if (comma < 0) continue;
    const metric = key.slice(0, comma);
    const metric_filter = key.slice(comma + 1);
    const score = numberOf(value);
    if (metric.endsWith("_stderr") || isNoScore(metric, score)) continue;
    metrics.push({
      metric,
      metric_filter,
      score,
      score_stderr: numberOf(member(scores, `${metric}_stderr,${metric_filter}`)),
      higher_is_better: booleanOf(member(higherIsBetter, metric)),
    });
  }
  return metrics;
}

/** A member that should be text; anything else as Python prints it. */
function printed(text: string, value: unknown, path: string[], print = pythonText): string | null {
  if (typeof value === "string") return value;
  if (value === undefined || value === null) return null;
  const raw = rawJsonMember(text, path);
  return raw === undefined ? null : print(raw);
}

function readTaskConfig(text: string, file: Fields, name: string): TaskConfig {
  const config = fieldsOf(member(file.configs, name));
  const at = (key: string) => ["configs", name, key];
  return {
    task_version: printed(text, member(file.versions, name), ["versions", name]),
    task_hash: textOf(member(file.task_hashes, name)),
    dataset_path: textOf(config.dataset_path),
    output_type: textOf(config.output_type),
    dataset_name: textOf(config.dataset_name),
    repeats: integerOf(config.repeats),
    doc_to_text: printed(text, config.doc_to_text, at("doc_to_text")),
    doc_to_target: printed(text, config.doc_to_target, at("doc_to_target")),
    doc_to_choice: printed(text, config.doc_to_choice, at("doc_to_choice"), pythonJsonText),
    generation_kwargs: printed(
      text,
      config.generation_kwargs,
      at("generation_kwargs"),
      pythonJsonText,
    ),
    should_decontaminate: booleanOf(config.should_decontaminate),
  };
}

/** `[token, id]`: the token. */
function tokenOf(value: unknown): string | null {
  return Array.isArray(value) ? textOf(value[0]) : null;
}

function readEvalConfig(file: Fields): EvalConfig {
  return {
    lm_eval_version: textOf(file.lm_eval_version),
    git_hash: textOf(file.git_hash),
    transformers_version: textOf(file.transformers_version),
    model_name: textOf(file.model_name),
    model_source: textOf(file.model_source),
    max_length: integerOf(file.max_length),
    total_eval_time_seconds: numberOf(file.total_evaluation_time_seconds),
    tokenizer_pad_token: tokenOf(file.tokenizer_pad_token),
    tokenizer_eos_token: tokenOf(file.tokenizer_eos_token),
    tokenizer_bos_token: tokenOf(file.tokenizer_bos_token),
    eot_token_id: integerOf(file.eot_token_id),
    chat_template: textOf(file.chat_template),
    chat_template_sha: textOf(file.chat_template_sha),
    system_instruction: textOf(file.system_instruction),
    system_instruction_sha: textOf(file.system_instruction_sha),
  };
}

function readTask(text: string, file: Fields, name: string, scores: Fields): TaskResult {
  const config = member(file.configs, name);
  return {
    name,
    // Group members of older versions are indented: " - name".
    alias: (textOf(scores.alias) ?? name).replace(/^\s*- /, "").trim() || name,
    num_fewshot: integerOf(member(file["n-shot"], name)),
    n_samples:
      integerOf(member(member(file["n-samples"], name), "effective")) ??
      integerOf(scores.sample_len),
    language: textOf(member(member(config, "metadata"), "language")),
    task_config: readTaskConfig(text, file, name),
    metrics: readMetrics(scores, member(file.higher_is_better, name)),
  };
}

/** @throws {SyntaxError} when the text is no JSON object with `results`. */
export function parseResultFile(text: string): ResultFile {
  const file = fieldsOf(parsePythonJson(text));
  if (typeof file.results !== "object") throw new SyntaxError('The file has no "results"');
  const date = numberOf(file.date);
  const command = member(file.eval_hive, "server_command_sha256");
  const tasks = new Map<string, TaskResult>();
  for (const [name, scores] of Object.entries(fieldsOf(file.results))) {
    if (member(file.configs, name) === undefined) continue;
    tasks.set(name, readTask(text, file, name, fieldsOf(scores)));
  }
  return {
    eval_date: date === null ? null : (pythonIsoDate(date) ?? null),
    eval_config: readEvalConfig(file),
    eval_hive: {
      fingerprint: textOf(member(file.eval_hive, "fingerprint")),
      run_id: textOf(member(file.eval_hive, "run_id")),
      server_command_sha256: command === undefined ? undefined : textOf(command),
    },
    tasks,
  };
}
