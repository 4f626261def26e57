import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
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
  const directory = join(import.meta.dirname, "../results");
  await mkdir(directory, { recursive: true });
  await writeFile(join(directory, `${bench}-${machineSlug(machine)}.json`), json);
  process.stdout.write(json);
}
