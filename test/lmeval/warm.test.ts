import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { runToEnd } from "../../src/base/spawn.ts";
import { requirePython, root } from "../support/require.ts";

const script =
  "import json; from eval_hive_harness.warm import warm_up; print(json.dumps(warm_up()))";

for (const version of ["0.4.13", "0.4.12"] as const) {
  test(`each step that warms the harness does what it is there for, lm_eval ${version}`, async (t) => {
    const python = requirePython(t, version);
    if (python === undefined) return;
    const env = { ...process.env, PYTHONPATH: join(root, "harness"), PYTHONDONTWRITEBYTECODE: "1" };
    const { code, stdout, stderr } = await runToEnd(python, ["-c", script], { env });
    assert.equal(code, 0, stderr);
    assert.deepEqual(JSON.parse(stdout), []);
  });
}
