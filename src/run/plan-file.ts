import { ExitCode, OperatorError, type OperatorErrorOptions } from "../base/errors.ts";
import { readTextIfThere, writeFileAtomic } from "../base/files.ts";
import { parseExactJson, stringifyJson } from "../base/json.ts";
import type { RunLayout } from "./layout.ts";
import { Plan } from "./plan.ts";

/** Thrown when a directory holds no run, or one that this version can't read. */
export class RunDirectoryError extends OperatorError {
  readonly code = "run.directory";
  readonly exitCode = ExitCode.usage;

  constructor(message: string, options?: OperatorErrorOptions) {
    super(message, options);
  }
}

/** The plan of a run, or undefined when create-run has not finished there. @throws {RunDirectoryError} */
export async function readPlanIfThere(layout: RunLayout): Promise<Plan | undefined> {
  const text = await readTextIfThere(layout.plan);
  if (text === undefined) return undefined;
  let value: unknown;
  try {
    value = parseExactJson(text);
  } catch (error) {
    throw new RunDirectoryError(`Cannot read "${layout.plan}": it is not JSON`, { cause: error });
  }
  const version = (value as { schema_version?: unknown } | null)?.schema_version;
  if (version !== 1) {
    throw new RunDirectoryError(
      `Cannot read "${layout.plan}": it has schema_version ${JSON.stringify(version)}, this eval-hive reads 1`,
      { hint: "Use the eval-hive that created this run, or create a new run." },
    );
  }
  const parsed = Plan.safeParse(value);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw new RunDirectoryError(
    `Cannot read "${layout.plan}": ${issue?.path.join(".") ?? ""}: ${issue?.message ?? "invalid"}`,
    { hint: "The file was changed by hand, or by another version of eval-hive." },
  );
}

/** @throws {RunDirectoryError} also when there is no plan. */
export async function readPlan(layout: RunLayout): Promise<Plan> {
  const plan = await readPlanIfThere(layout);
  if (plan !== undefined) return plan;
  throw new RunDirectoryError(`Cannot find a run in "${layout.directory}": no eh_plan.json there`, {
    hint: `Make one with: eval-hive create-run --config CONFIG --output ${layout.directory}`,
  });
}

/** Replaces the plan in one step: from here on the run is what it says. */
export async function writePlan(layout: RunLayout, plan: Plan): Promise<void> {
  await writeFileAtomic(layout.plan, `${stringifyJson(plan, 1)}\n`);
}
