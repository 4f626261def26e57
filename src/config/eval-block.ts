import * as z from "zod";
import { integer, lmEvalArguments, name } from "./fields.ts";

const reservedArguments = new Map([
  ["output_path", "the key output_path at the top of the file"],
  ["model_args", "eval.model_args"],
  ["tasks", "eval.suites_and_tasks"],
  ["include_path", "eval.eval_suite_path"],
]);

/** The parts of `eval` that a profile may override. */
export const evaluationFields = {
  model_args: lmEvalArguments(
    "lm_eval's --model_args; ${EH_MODEL_PATH} and ${EH_PORT} are filled in.",
    new Map(),
  ).default({}),
  lm_eval_args: lmEvalArguments(
    "More flags of `lm_eval run`: true is a bare flag, false and null leave it out.",
    reservedArguments,
  ).default({}),
  timeout: integer(1, "Seconds until one attempt of one request is given up.").default(600),
  max_retries: integer(
    1,
    "Attempts that lm_eval makes per request; with a server command at least 8, and the balancer asks again by itself before one of them fails.",
  ).default(5),
  phase_timeout_minutes: integer(
    1,
    "Minutes that a task may take to load its data, and as many to score its answers, before it counts as failed. Requests have their own timeout.",
  ).default(120),
};

export const EvalBlock = z.strictObject({
  suites_and_tasks: z
    .array(name("Leaf, group or tag."))
    .min(1, "must not be empty")
    .describe("What to evaluate: lm_eval tasks, groups and tags."),
  exclude_tasks: z
    .array(name("Leaf."))
    .describe("Leaves of these suites that are left out; recorded in the plan.")
    .default([]),
  eval_suite_path: name("Folder with your own tasks (lm_eval's --include_path).")
    .nullable()
    .default(null),
  ...evaluationFields,
});
