import assert from "node:assert/strict";
import { test } from "node:test";
import { runChaos } from "../support/chaos.ts";
import { isLong, requirePython } from "../support/require.ts";

const seed = 20261126;
const faults = isLong ? 100 : 8;

test(`${faults} processes killed or stopped at random: every leaf has one result, equal to that of an undisturbed unit`, {
  timeout: isLong ? 3_600_000 : 300_000,
}, async (t) => {
  const python = requirePython(t);
  if (python === undefined) return;
  const report = await runChaos({
    seed,
    faults,
    batches: isLong ? 60 : 8,
    // Half a minute each until the product finds out.
    frozenPercent: isLong ? 20 : 0,
    python,
  });
  assert.ok(report.faults.length >= faults / 2, "too few faults found a victim");
  t.diagnostic(JSON.stringify({ seed, ...report, faults: report.faults.length }));
});
