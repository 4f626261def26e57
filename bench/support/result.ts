import { mkdir, readFile, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { isMissing } from "../../src/base/errors.ts";
import { describeMachine, machineSlug } from "./machine.ts";

/**
 * Prints the figures of a bench as JSON and keeps them in bench/results/BENCH-MACHINE.json, which is committed: one file per
 * bench and machine, the latest figures.
 * @param figures spelled in snake_case, with their unit: `claims_per_s`, `census_s`
 */
export async function keepResult(bench: string, figures: object): Promise<void> {
  const machine = describeMachine();
  const result = { bench, at: new Date().toISOString(), machine, ...figures };
  const json = `${JSON.stringify(result, undefined, 2)}\n`;
  const file = resultFile(bench);
  await mkdir(dirname(file), { recursive: true });
  await writeFile(file, json);
  process.stdout.write(json);
}

/** What was kept of a bench on this machine, for one that measures a part at a time; undefined: nothing. */
export async function keptResult(bench: string): Promise<Record<string, unknown> | undefined> {
  try {
    return JSON.parse(await readFile(resultFile(bench), "utf8"));
  } catch (error) {
    if (isMissing(error)) return undefined;
    throw error;
  }
}

function resultFile(bench: string): string {
  const name = `${bench}-${machineSlug(describeMachine())}.json`;
  return join(import.meta.dirname, "../results", name);
}
