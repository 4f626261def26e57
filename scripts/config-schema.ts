/**
 * Writes what follows from the config's schema: eval-hive.schema.json for editors, and the tables of docs/config.md between
 * its markers. With --check it writes nothing and fails when one of them is not current.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { renderReference, renderSchema } from "../src/config/reference.ts";

const root = join(import.meta.dirname, "..");
const page = join(root, "docs/config.md");
const files: readonly (readonly [path: string, text: string])[] = [
  [join(root, "eval-hive.schema.json"), renderSchema()],
  [page, renderReference(readFileSync(page, "utf8"))],
];

for (const [path, text] of files) {
  if (!process.argv.includes("--check")) writeFileSync(path, text);
  else if (readFileSync(path, "utf8") !== text) {
    process.stderr.write(`${path} is not current: run node scripts/config-schema.ts\n`);
    process.exitCode = 1;
  }
}
