/**
 * Runs the tests with node's runner: one process for all pure unit files (test/unit.test.ts imports them), one for each
 * file that spawns or kills. Arguments: files or parts of their names; none means all.
 */
import { globSync, readFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { run } from "node:test";
import { spec } from "node:test/reporters";

const root = join(import.meta.dirname, "..");
const wanted = process.argv.slice(2);
/** Folders whose files take longest: what begins last should be short. */
const heavy = ["test/system/", "test/lmeval/", "test/agent/", "test/queue/"];
const weight = (file: string): number => {
  const found = heavy.findIndex((folder) => file.startsWith(folder));
  return found < 0 ? heavy.length : found;
};
const all = globSync("test/**/*.test.ts", { cwd: root })
  .sort()
  .sort((a, b) => weight(a) - weight(b));
const shared = new Set(
  [...readFileSync(join(root, "test/unit.test.ts"), "utf8").matchAll(/import "\.\/(.+)";/g)].map(
    ([, file]) => `test/${file}`,
  ),
);
const files =
  wanted.length === 0
    ? all.filter((file) => !shared.has(file))
    : all.filter((file) => wanted.some((part) => file.includes(part)));
if (files.length === 0) {
  process.stderr.write(`No test file's name contains ${wanted.join(" or ")}\n`);
  process.exit(2);
}

// Hundreds of processes start from the same sources: only the first ones compile them.
process.env["NODE_COMPILE_CACHE"] = join(root, "node_modules/.cache/compile");
process.chdir(root);
run({
  files,
  // One more than there are cores: many tests wait for what others do.
  concurrency: availableParallelism() + 1,
  // Of a file: one that hangs must not hold up the others for ever.
  timeout: process.env["EVAL_HIVE_LONG"] === "1" ? 14_400_000 : 900_000,
})
  .on("test:fail", () => {
    process.exitCode = 1;
  })
  .compose(spec)
  .pipe(process.stdout);
