import { stat } from "node:fs/promises";
import { ExitCode, errnoName, OperatorError, type OperatorErrorOptions } from "../base/errors.ts";
import { readTextIfThere, writeFileAtomic } from "../base/files.ts";
import { parseExactJson, stringifyJson } from "../base/json.ts";
import type { RunLayout } from "./layout.ts";
import { Plan } from "./plan.ts";

/**
 * Thrown when a directory holds no run (`run.missing`), one of another tool (`run.foreign`), or one that this version can't
 * read (`run.directory`).
 */
export class RunDirectoryError extends OperatorError {
  readonly code: string;
  readonly exitCode = ExitCode.usage;

  constructor(message: string, options?: OperatorErrorOptions, code = "run.directory") {
    super(message, options);
    this.code = code;
  }
}

const howToMake =
  "Give the directory that run or create-run has written; both make one: eval-hive run CONFIG";

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

/** @throws {RunDirectoryError} also when there is no plan: it says what is there instead. */
export async function readPlan(layout: RunLayout): Promise<Plan> {
  const plan = await readPlanIfThere(layout).catch((error: unknown) => {
    // A file in the directory's place.
    if (errnoName(error) === "ENOTDIR") return undefined;
    throw error;
  });
  if (plan !== undefined) return plan;
  throw await explainMissingPlan(layout);
}

async function explainMissingPlan({ directory, manifest }: RunLayout): Promise<RunDirectoryError> {
  const found = await stat(directory).catch(() => undefined);
  if (found?.isDirectory() === true && (await readTextIfThere(manifest)) !== undefined) {
    return new RunDirectoryError(
      `Cannot read a run in "${directory}": it has no plan`,
      {
        hint: "It looks like a run of the Python eval-hive, or a create-run that did not end: create the run again in another directory; results under output_path are kept.",
      },
      "run.foreign",
    );
  }
  const [state, hint] =
    found === undefined
      ? ["there is no such directory", howToMake]
      : found.isDirectory()
        ? ["no eh_plan.json there", howToMake]
        : [
            "it is a file",
            "Give the run directory, not the config: the one that run or create-run has written.",
          ];
  return new RunDirectoryError(
    `Cannot find a run in "${directory}": ${state}`,
    { hint },
    "run.missing",
  );
}

/** Replaces the plan in one step: from here on the run is what it says. */
export async function writePlan(layout: RunLayout, plan: Plan): Promise<void> {
  await writeFileAtomic(layout.plan, `${stringifyJson(plan, 1)}\n`);
}
