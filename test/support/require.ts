import { existsSync } from "node:fs";
import { join } from "node:path";
import type { TestContext } from "node:test";

export const root = join(import.meta.dirname, "../..");

/** npm run test:long: whole suites, where npm test has seeded samples of them. */
export const isLong = process.env["EVAL_HIVE_LONG"] === "1";

/** The Python with lm_eval 0.4.13, or undefined after the test was skipped (an error where skips are forbidden). */
export function requirePython(
  t: TestContext,
  version: "0.4.13" | "0.4.12" = "0.4.13",
): string | undefined {
  const given = version === "0.4.13" ? process.env["EVAL_HIVE_PYTHON"] : undefined;
  const python = given ?? join(root, version === "0.4.13" ? ".venv" : ".venv-0.4.12", "bin/python");
  if (existsSync(python)) return python;
  return skip(t, `no Python with lm_eval ${version} at ${python}; npm test installs it`);
}

/** Skips the test, or fails it where EVAL_HIVE_NO_SKIP is set. */
export function skip(t: TestContext, reason: string): undefined {
  if (process.env["EVAL_HIVE_NO_SKIP"] === "1") throw new Error(`Cannot run this test: ${reason}`);
  t.skip(reason);
  return undefined;
}
