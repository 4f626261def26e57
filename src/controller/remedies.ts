/** What a person can do about work that failed with a class; anything else is in the log of the harness. */
const remedies: Readonly<Record<string, string>> = {
  "server-start":
    "Read the server's log, then correct inference_server_command or health_check_max_wait_minutes",
  "server-unfit":
    "Correct the server's command, or leave the tasks out that it can't serve (exclude_tasks)",
  "server-crash-loop": "Read the server's logs: is it short of memory, or does a prompt end it?",
  requests: "Read the server's log: it refused requests, or did not answer them in eval.timeout",
  model: "Correct eval.model_args, or the tokenizer of the model",
  "missing-module": "Install what is missing into the Python of the run",
  "data-offline": "Fetch the data set where there is a network, into the same HF_HOME",
  load: "Correct the task, or its data",
  metric: "Correct the task's scoring",
  memory: "Give it more memory, or less to do at a time (parallel_tasks)",
  "task-changed": "Take the changed task into the run: --update",
  "unsafe-code": "Set lm_eval_args.confirm_run_unsafe_code, or leave the task out (exclude_tasks)",
  unsupported: "Choose another lm_eval_args.model, or leave the task out (exclude_tasks)",
};

/** What to do about a unit that was given up. */
export function remedyForUnit(failureClass: string): string {
  return `${remedyFor(failureClass)}; then run again, with --update if the config has changed`;
}

/** What to do about a dead leaf; null: every attempt ended for a reason that was not its own. */
export function remedyForLeaf(failureClass: string | null): string {
  const remedy =
    failureClass === null
      ? "See with `eval-hive events` what ended it each time"
      : remedyFor(failureClass);
  return `${remedy}; then give it another chance with requeue`;
}

function remedyFor(failureClass: string): string {
  return remedies[failureClass] ?? "Read the log of the harness";
}
