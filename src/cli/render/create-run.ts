import type { CreateRunOutcome } from "../../controller/create-run.ts";
import { renderCommand } from "./command-line.ts";

/** What was planned, what is to do, what to mind, and the next command. */
export function renderCreatedRun(outcome: CreateRunOutcome, dry: boolean): string {
  const { layout, plan, published, nCovered, nWaiting, isNews } = outcome;
  const leaves = Object.keys(plan.leaves).length;
  const { lm_eval, python } = plan.harness.versions;
  const lines = [
    `${plan.units.length} units × ${leaves} tasks, with lm_eval ${lm_eval} on Python ${python}`,
    ...(isNews ? [] : ["the run is up to date: nothing was published"]),
    `${published.nLeaves} evaluations to do, ${nWaiting === 0 ? "" : `${nWaiting} under way or waiting, `}${nCovered} have a valid result already`,
    ...plan.not_found.map(
      ({ model, steps, path }) =>
        `not there yet: ${model}: ${steps.length > 0 ? `steps ${steps.join(", ")} in ` : ""}${path}`,
    ),
    ...plan.warnings.map((warning) => `warning: ${warning}`),
    dry
      ? `nothing was written; without --dry the run would be in ${layout.directory}`
      : `next: ${renderCommand(["eval-hive", "run", layout.directory])}`,
  ];
  return `${lines.join("\n")}\n`;
}
