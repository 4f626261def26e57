import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { runToEnd } from "../../src/base/spawn.ts";
import { requirePython, root } from "../support/require.ts";

const script = `
import fnmatch, json, sys
from eval_hive_harness.warm import warm_up
failures = warm_up()
from transformers.models.auto.tokenization_auto import MODEL_IDS_TO_TOKENIZERS_BACKEND
def compiled():
  return fnmatch._compile_pattern.cache_info().misses
before = compiled()
for pattern in MODEL_IDS_TO_TOKENIZERS_BACKEND: fnmatch.fnmatch("", pattern)
print(json.dumps({
  "failures": failures,
  "imported": [name in sys.modules for name in ("multiprocessing.synchronize", "datasets.packaged_modules.json.json")],
  "patterns": compiled() == before,
}))
`;

for (const version of ["0.4.13", "0.4.12"] as const) {
  test(`no step that warms the harness fails, and what a child would do first is done, lm_eval ${version}`, async (t) => {
    const python = requirePython(t, version);
    if (python === undefined) return;
    const env = { ...process.env, PYTHONPATH: join(root, "harness"), PYTHONDONTWRITEBYTECODE: "1" };
    const { code, stdout, stderr } = await runToEnd(python, ["-c", script], { env });
    assert.equal(code, 0, stderr);
    assert.deepEqual(JSON.parse(stdout), { failures: [], imported: [true, true], patterns: true });
  });
}
