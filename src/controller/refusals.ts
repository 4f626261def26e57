import { ExitCode, OperatorError } from "../base/errors.ts";
import type { Planned } from "../lmeval/protocol.ts";
import type { Leaf } from "../lmeval/task-tree.ts";

/** One thing that would fail later on a GPU, found while planning. */
export interface Refusal {
  readonly kind:
    | "unknown-task"
    | "excluded-group"
    | "nothing-left"
    | "generation-too-long"
    | "unsafe-code"
    | "no-loglikelihood";
  readonly message: string;
  readonly hint: string;
}

/** Thrown when the plan holds work that can't succeed; nothing has been written. */
export class RefusedPlanError extends OperatorError {
  readonly code = "plan.refused";
  readonly exitCode = ExitCode.usage;
  readonly issues: readonly Refusal[];

  constructor(refusals: readonly Refusal[]) {
    const lines = refusals.map(({ message, hint }) => `\n  - ${message}\n    ${hint}`);
    super(`Cannot plan this run: ${count(refusals.length, "problem")}${lines.join("")}`);
    this.issues = refusals;
  }
}

/** The arguments that decide whether a leaf can be evaluated at all. */
interface EvaluationArguments {
  readonly model_args: Readonly<Record<string, unknown>>;
  readonly lm_eval_args: Readonly<Record<string, unknown>>;
}

/** Names that no task has, with the nearest ones that exist. */
export function refuseUnknownTasks(unknown: Planned["unknown"]): Refusal[] {
  return unknown.map(({ name, near }) => ({
    kind: "unknown-task",
    message: `Unknown task "${name}" in eval.suites_and_tasks`,
    hint:
      near.length > 0
        ? `Did you mean ${near.map((other) => `"${other}"`).join(" or ")}?`
        : "Look at `lm_eval ls tasks`, or set eval.eval_suite_path to the folder that defines it.",
  }));
}

/** What can't be evaluated with these arguments, by name. Pure. */
export function refuseLeaves(leaves: readonly Leaf[], args: EvaluationArguments): Refusal[] {
  return [
    ...refuseTooLongGenerations(leaves, args),
    ...refuseUnsafeCode(leaves, args),
    ...refuseLoglikelihoodOnChat(leaves, args),
  ];
}

/** lm_eval keeps the last max_length - 1 - max_gen_toks tokens of a prompt, silently, also when that is none. */
function refuseTooLongGenerations(
  leaves: readonly Leaf[],
  { model_args, lm_eval_args }: EvaluationArguments,
): Refusal[] {
  const maxLength = numberFrom(model_args.max_length);
  if (maxLength === undefined) return [];
  const forAll = generationLimit(lm_eval_args.gen_kwargs);
  const fallback = numberFrom(model_args.max_gen_toks) ?? 256;
  const tooLong = leaves.filter(
    (leaf) =>
      leaf.output_type === "generate_until" &&
      (forAll ?? leaf.max_gen_toks ?? fallback) >= maxLength - 1,
  );
  if (tooLong.length === 0) return [];
  return [
    {
      kind: "generation-too-long",
      message: `max_gen_toks leaves no room for the prompt in max_length ${maxLength}: ${nameSome(tooLong)}`,
      hint: "Raise eval.model_args.max_length, lower max_gen_toks in lm_eval_args.gen_kwargs, or name the tasks in eval.exclude_tasks.",
    },
  ];
}

function refuseUnsafeCode(
  leaves: readonly Leaf[],
  { lm_eval_args }: EvaluationArguments,
): Refusal[] {
  const unsafe = leaves.filter((leaf) => leaf.unsafe_code);
  if (unsafe.length === 0 || lm_eval_args.confirm_run_unsafe_code === true) return [];
  return [
    {
      kind: "unsafe-code",
      message: `These tasks run code that the model writes: ${nameSome(unsafe)}`,
      hint: "Consent with eval.lm_eval_args.confirm_run_unsafe_code: true, or name them in eval.exclude_tasks.",
    },
  ];
}

function refuseLoglikelihoodOnChat(
  leaves: readonly Leaf[],
  { lm_eval_args }: EvaluationArguments,
): Refusal[] {
  const model = String(lm_eval_args.model ?? "");
  if (!model.includes("chat-completions")) return [];
  const scored = leaves.filter(
    ({ output_type }) => output_type !== null && output_type !== "generate_until",
  );
  if (scored.length === 0) return [];
  return [
    {
      kind: "no-loglikelihood",
      message: `"${model}" gives no log-likelihoods, which these tasks need: ${nameSome(scored)}`,
      hint: "Use lm_eval_args.model: local-completions, or name the tasks in eval.exclude_tasks.",
    },
  ];
}

/** `max_gen_toks` of gen_kwargs as text (`a=1,b=2`), JSON text or map. */
function generationLimit(genKwargs: unknown): number | undefined {
  if (genKwargs !== null && typeof genKwargs === "object") {
    const map = genKwargs as Record<string, unknown>;
    return numberFrom(map.max_gen_toks ?? map.max_tokens);
  }
  const match = /"?max_(?:gen_toks|tokens)"?\s*[=:]\s*(\d+)/.exec(String(genKwargs ?? ""));
  return match?.[1] === undefined ? undefined : Number(match[1]);
}

function numberFrom(value: unknown): number | undefined {
  if (value === undefined || value === null || value === "") return undefined;
  const number = Number(value);
  return Number.isFinite(number) ? number : undefined;
}

function nameSome(leaves: readonly Leaf[]): string {
  const names = leaves.slice(0, 5).map(({ name }) => name);
  const more = leaves.length - names.length;
  return more > 0 ? `${names.join(", ")} and ${more} more` : names.join(", ");
}

function count(n: number, noun: string): string {
  return `${n} ${noun}${n === 1 ? "" : "s"}`;
}
