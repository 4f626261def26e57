import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { runToEnd } from "../../src/base/spawn.ts";
import { requirePython, root } from "../support/require.ts";

test("requests to this machine are aiohttp's byte for byte, and so are answers and errors", async (t) => {
  const python = requirePython(t);
  if (python === undefined) return;
  const env = { ...process.env, PYTHONPATH: join(root, "harness"), PYTHONDONTWRITEBYTECODE: "1" };
  const done = await runToEnd(python, [join(root, "test/support/loopback.py")], { env });
  assert.equal(done.code, 0, done.stderr.slice(-2_000));
  const { cases, differences, own, cut_off } = JSON.parse(done.stdout) as {
    cases: number;
    differences: unknown[];
    own: string[];
    cut_off: unknown[];
  };
  assert.deepEqual(differences, []);
  assert.ok(cases > 50);
  assert.deepEqual(cut_off, Array(3).fill([["broken", ""]]));
  assert.deepEqual(own, ["as lm_eval asks", "without headers"]);
});
