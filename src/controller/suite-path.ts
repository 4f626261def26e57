import { stat } from "node:fs/promises";
import { resolve } from "node:path";
import { isMissing } from "../base/errors.ts";
import type { Finding } from "../config/issue.ts";
import type { Config } from "../config/schema.ts";
import { missingDirectoryHint, whyUnreadable } from "./checkpoints.ts";

/** What is wrong with the folder of task files that a config names: one finding, or none. */
export async function checkSuitePath(config: Config, baseDirectory: string): Promise<Finding[]> {
  const path = config.eval.eval_suite_path;
  if (path === null) return [];
  const refuse = (why: string, hint: string): Finding[] => [
    { path: ["eval", "eval_suite_path"], message: `task folder "${path}" ${why}`, hint },
  ];
  try {
    const status = await stat(resolve(baseDirectory, path));
    return status.isDirectory() ? [] : refuse("is no directory", "Name the folder that holds it.");
  } catch (error) {
    const hint = isMissing(error) ? missingDirectoryHint(path) : "Correct the path or its mode.";
    return refuse(whyUnreadable(error), hint);
  }
}
