/**
 * Kills and stops processes of a real run at random points, then looks whether every leaf has exactly one result, equal to
 * that of an undisturbed unit:
 *
 *     npm run chaos -- --seed 7 --faults 100 [--batches 60] [--slots 2]
 */
import { join } from "node:path";
import { parseArgs } from "node:util";
import { runChaos } from "../test/support/chaos.ts";

const { values } = parseArgs({
  options: {
    seed: { type: "string", default: `${Date.now() % 1_000_000}` },
    faults: { type: "string", default: "100" },
    batches: { type: "string", default: "60" },
    slots: { type: "string", default: "2" },
    "frozen-percent": { type: "string", default: "20" },
  },
});
const seed = Number(values.seed);
process.stdout.write(`chaos: seed ${seed}\n`);
const { faults, ...report } = await runChaos({
  seed,
  faults: Number(values.faults),
  batches: Number(values.batches),
  slots: Number(values.slots),
  frozenPercent: Number(values["frozen-percent"]),
  python: process.env["EVAL_HIVE_PYTHON"] ?? join(import.meta.dirname, "../.venv/bin/python"),
  say: (line) => void process.stdout.write(`${line}\n`),
});
const counts = Object.fromEntries(
  [...Map.groupBy(faults, ({ role, signal }) => `${signal} ${role}`)].map(([kind, all]) => [
    kind,
    all.length,
  ]),
);
process.stdout.write(`${JSON.stringify({ seed, ...report, faults: counts }, undefined, 2)}\n`);
