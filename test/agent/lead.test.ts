import assert from "node:assert/strict";
import { test } from "node:test";
import { requirePython } from "../support/require.ts";
import { makeSmallRun } from "../support/small-run.ts";

test("a lead agent evaluates a run to its end and leaves nothing running", async (t) => {
  const python = requirePython(t);
  if (python === undefined) return;
  await using run = await makeSmallRun({ python });
  const lead = await run.startLead();
  const { exit, said } = await lead.end();
  assert.deepEqual([exit.code, said.reason, said.exit_code], [0, "complete", 0]);
  assert.equal((await run.leafFiles()).length, 3);
  assert.deepEqual(await lead.descendants(), []);
  const { leaves } = await run.state();
  assert.deepEqual([leaves.done, leaves.total], [3, 3]);
});
