import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readFile, writeFile } from "node:fs/promises";
import { describe, test } from "node:test";
import fc from "fast-check";
import { type UnitId, unitId } from "../../src/run/ids.ts";
import { RunLayout } from "../../src/run/layout.ts";
import {
  type Manifest,
  type ManifestEntry,
  readManifest,
  renderManifest,
  writeManifest,
} from "../../src/run/manifest.ts";
import { RunDirectoryError } from "../../src/run/plan-file.ts";
import { requirePython } from "../support/require.ts";
import { temporaryDirectory } from "../support/temporary.ts";

const entry: ManifestEntry = {
  model_key: "org/run",
  label: "step_100",
  step: 1100,
  model_path: "/ckpts/step_100",
  display_name: 'Rün "1" 模型 😀\t\u007f\u0001/',
  train_batch_size: 2_097_152,
  tokens_trained: 9_007_199_254_740_993n,
};

/** Any manifest; the texts hold what JSON has to escape. */
const manifests: fc.Arbitrary<Manifest> = fc
  .uniqueArray(
    fc.record({
      model_key: fc.string({ minLength: 1 }),
      label: fc.string(),
      step: fc.option(integer()),
      model_path: fc.string({ unit: "binary" }),
      display_name: fc.string({
        unit: fc.constantFrom(...'a"\\/\u0000\u001f\u007f\u0080é\u2028\uffff', "😀", "\ud800"),
      }),
      train_batch_size: fc.option(integer()),
      tokens_trained: fc.option(integer()),
    }),
    { selector: ({ model_key, label }) => unitId(model_key, label) },
  )
  .map((all) => new Map(all.map((one) => [unitId(one.model_key, one.label), { ...one }])));

function integer(): fc.Arbitrary<number | bigint> {
  return fc.bigInt().map((value) => {
    const number = Number(value);
    return Number.isSafeInteger(number) ? number : value;
  });
}

describe("eh_manifest.json", () => {
  test("has the original's fields in its order, two blanks of indent and no line end", () => {
    const last = {
      ...entry,
      label: "main",
      step: null,
      train_batch_size: null,
      tokens_trained: null,
    };
    const text = renderManifest(
      new Map([
        ["org-run--step_100" as UnitId, entry],
        ["org-run--main" as UnitId, { ...last, display_name: "Run" }],
      ]),
    );
    assert.equal(
      text,
      String.raw`{
  "org-run--step_100": {
    "model_key": "org/run",
    "label": "step_100",
    "step": 1100,
    "model_path": "/ckpts/step_100",
    "display_name": "R\u00fcn \"1\" \u6a21\u578b \ud83d\ude00\t\u007f\u0001/",
    "train_batch_size": 2097152,
    "tokens_trained": 9007199254740993
  },
  "org-run--main": {
    "model_key": "org/run",
    "label": "main",
    "step": null,
    "model_path": "/ckpts/step_100",
    "display_name": "Run",
    "train_batch_size": null,
    "tokens_trained": null
  }
}`,
    );
  });

  test("is, byte for byte, what Python's json.dumps makes of it", (t) => {
    const python = requirePython(t);
    if (python === undefined) return;
    const texts = fc.sample(manifests, { numRuns: 300, seed: 1 }).map(renderManifest);
    const script =
      "import json, sys\n" +
      "print(json.dumps([json.dumps(json.loads(t), indent=2) for t in json.load(sys.stdin)]))";
    const { stdout, stderr } = spawnSync(python, ["-c", script], {
      input: JSON.stringify(texts),
      encoding: "utf8",
    });
    assert.equal(stderr, "");
    assert.deepEqual(JSON.parse(stdout), texts);
  });

  test("reads back as it was written, integers exact", async () => {
    await using place = await temporaryDirectory();
    const layout = new RunLayout(place.path);
    await fc.assert(
      fc.asyncProperty(manifests, async (manifest) => {
        await writeManifest(layout, manifest);
        assert.equal(await readFile(layout.manifest, "utf8"), renderManifest(manifest));
        assert.deepEqual([...(await readManifest(layout))], [...manifest]);
      }),
      { numRuns: 50 },
    );
  });

  test("that is missing or no manifest is refused by name", async () => {
    await using place = await temporaryDirectory();
    const layout = new RunLayout(place.path);
    const refused = async (message: RegExp) => {
      await assert.rejects(
        readManifest(layout),
        (error: unknown) => error instanceof RunDirectoryError && message.test(error.message),
      );
    };
    await refused(/Cannot find ".*eh_manifest.json"/);
    for (const text of ["", "[]", '{"a--main": {"model_key": "a"}}', '{"a--main": {}']) {
      await writeFile(layout.manifest, text);
      await refused(/Cannot read ".*eh_manifest.json": it is no manifest/);
    }
  });
});

test("a task key holds letters, digits, dashes and underscores of model key and label", () => {
  assert.equal(unitId("org/Model-7B_v1.0", "step 1"), "org-Model-7B_v1-0--step-1");
  assert.equal(unitId("😀é", "main"), "----main");
  fc.assert(
    fc.property(fc.string({ unit: "binary" }), fc.string({ unit: "binary" }), (key, label) => {
      const id = unitId(key, label);
      assert.match(id, /^[a-zA-Z0-9_-]*--[a-zA-Z0-9_-]*$/);
      assert.equal(id.length, [...key].length + 2 + [...label].length);
    }),
  );
});
