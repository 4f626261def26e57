import assert from "node:assert/strict";
import { globSync, readFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { describe, test } from "node:test";
import { z } from "zod";
import { configJsonSchema } from "../../src/config/json-schema.ts";
import { parseConfig } from "../../src/config/load.ts";
import { keysByBlock, renderReference, renderSchema } from "../../src/config/reference.ts";
import { parseYaml } from "../../src/config/source.ts";
import { configText } from "../support/config-text.ts";
import { root } from "../support/require.ts";

const schemaFile = join(root, "eval-hive.schema.json");
const page = readFileSync(join(root, "docs/config.md"), "utf8");
const examples = globSync("examples/**/eh_config*.yaml", { cwd: root });

describe("what is generated from the config's schema", () => {
  const again = "run node scripts/config-schema.ts";

  test("is current: eval-hive.schema.json", () => {
    assert.equal(readFileSync(schemaFile, "utf8"), renderSchema(), again);
  });

  test("is current: the tables of docs/config.md", () => {
    assert.equal(renderReference(page), page, again);
  });

  test("refuses a page that names what the config does not have", () => {
    for (const marker of ["keys: . colour", "keys: eval.colour", "names: colour"]) {
      assert.throws(() => renderReference(`<!-- ${marker} -->\n<!-- end -->`), RangeError);
    }
  });
});

describe("docs/config.md", () => {
  test("leaves no key of any block out", () => {
    const told = new Map<string, Set<string>>();
    for (const [, path = "", body = ""] of page.matchAll(
      /<!-- (?:keys|names): (\S+).*? -->\n([\s\S]*?)<!-- end -->/g,
    )) {
      const keys = [...body.matchAll(/^\| `(\w+)` \||`(\w+)`(?:, |\.)/gm)].map(
        ([, row, listed]) => row ?? listed ?? "",
      );
      told.set(path, new Set([...(told.get(path) ?? []), ...keys]));
    }
    const blocks = keysByBlock();
    assert.deepEqual([...blocks.keys()].sort(), [
      ".",
      "eval",
      "models.*",
      "models.*.profile",
      "models.*.profile.eval",
      "queue",
    ]);
    for (const [path, keys] of blocks) {
      assert.deepEqual(
        keys.filter((key) => told.get(path)?.has(key) !== true),
        [],
        `left out below "${path}"`,
      );
    }
  });

  test("explains each key that it has a table for", () => {
    const rows = [...page.matchAll(/^\| `\w+` \| .* \| .* \| .*$/gm)];
    assert.ok(rows.length > 50);
    for (const [row] of rows) assert.match(row, / \| \S.{8,}\. \|$/);
  });

  test("has an example that is valid and gives no cause for warnings", () => {
    const [, text = ""] = /## An example\n\n```yaml\n([\s\S]*?)```/.exec(page) ?? [];
    const { warnings, config } = parseConfig("docs/config.md", text);
    assert.deepEqual(warnings, []);
    assert.equal(Object.keys(config.models).length, 3);
  });
});

describe("the schema for editors", () => {
  const schema = z.fromJSONSchema(configJsonSchema() as never);
  /** As an editor reads the file: every number is a number. */
  const accepts = (text: string): boolean =>
    schema.safeParse(
      JSON.parse(
        JSON.stringify(parseYaml("c.yaml", text).value, (_key, value: unknown) =>
          typeof value === "bigint" ? Number(value) : value,
        ),
      ),
    ).success;

  test("accepts the examples, notes, and numbers with underscores that an editor takes for text", () => {
    assert.ok(examples.length > 0);
    for (const file of examples) assert.ok(accepts(readFileSync(join(root, file), "utf8")), file);
    assert.ok(accepts(configText({ top: "x-note: 1\ncpus_per_node: 4", model: "x-note: 1" })));
    assert.ok(
      accepts(configText({ model: 'train_batch_size: "2_097_152"\ntokens_trained: [1, 2B]' })),
    );
  });

  test("refuses unknown keys, wrong types and missing keys", () => {
    for (const text of [
      configText({ top: "colour: red" }),
      configText({ eval: "timeout: soon" }),
      configText({ top: "parallel_tasks: 0" }),
      configText({ top: "partition: 4" }),
      configText({ eval: "colour: red" }),
      configText().replace("output_path: results\n", ""),
    ]) {
      assert.ok(!accepts(text), text);
    }
  });

  test("knows the default of each key that has one", () => {
    const properties = configJsonSchema()["properties"] as Record<string, { default?: unknown }>;
    const without = Object.entries(properties).filter((entry) => !("default" in entry[1]));
    assert.deepEqual(
      without.map(([key]) => key),
      ["eval", "output_path", "models"],
    );
    assert.equal(properties["task_batch_size"]?.default, 8);
  });

  test("is named by the examples, where it lies", () => {
    for (const file of examples) {
      const place = relative(join(root, dirname(file)), schemaFile);
      const [first] = readFileSync(join(root, file), "utf8").split("\n");
      assert.equal(first, `# yaml-language-server: $schema=${place}`);
    }
  });
});
