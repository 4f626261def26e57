/**
 * Runs the tests with node's runner: one process for all pure unit files (test/unit.test.ts imports them), one for each
 * file that spawns or kills. Arguments: files or parts of their names; none means all.
 */
import { spawn } from "node:child_process";
import { globSync, readFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { join } from "node:path";

const root = join(import.meta.dirname, "..");
const wanted = process.argv.slice(2);
const all = globSync("test/**/*.test.ts", { cwd: root }).sort();
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

const child = spawn(
  process.execPath,
  // One more than there are cores: many tests wait for what others do.
  [
    "--test",
    `--test-concurrency=${availableParallelism() + 1}`,
    "--test-timeout=1800000",
    ...files,
  ],
  {
    cwd: root,
    stdio: "inherit",
    // Hundreds of processes start from the same sources: only the first ones compile them.
    env: { ...process.env, NODE_COMPILE_CACHE: join(root, "node_modules/.cache/compile") },
  },
);
child.on("exit", (code, signal) => {
  process.exitCode = signal === null ? (code ?? 1) : 1;
});
