import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { runToEnd } from "../../src/base/spawn.ts";
import { requirePython, root } from "../support/require.ts";

test("a leaf is nearly done two seconds before its last answer, as far as a tenth of them tells", async (t) => {
  const python = requirePython(t);
  if (python === undefined) return;
  const env = { ...process.env, PYTHONPATH: join(root, "harness"), PYTHONDONTWRITEBYTECODE: "1" };
  const done = await runToEnd(python, [join(root, "test/support/meter.py")], { env });
  assert.equal(done.code, 0, done.stderr);
  const phases = ["loading", "requests", "scoring"];
  assert.deepEqual(JSON.parse(done.stdout), {
    // Of 12.5 s.
    steady: {
      nearly_done_at: 84,
      phases,
      after_scoring_began: true,
      requests_s: 12.5,
      total_s: 12.5,
    },
    // The first answers say nothing, however quick they are.
    quick: { nearly_done_at: 100, phases, after_scoring_began: true, requests_s: 1, total_s: 1 },
    single: { nearly_done_at: 1, phases, after_scoring_began: true, requests_s: 30, total_s: 30 },
    // The turn of another evaluation is nobody's time.
    held: {
      nearly_done_at: 6,
      phases: ["loading", "prepared", "requests", "scoring"],
      after_scoring_began: true,
      requests_s: 5,
      total_s: 5,
    },
  });
});
