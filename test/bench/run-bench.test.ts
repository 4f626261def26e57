import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { globSync } from "node:fs";
import { basename, join } from "node:path";
import { describe, test } from "node:test";
import { timeCommand } from "../../bench/support/timed-command.ts";
import { root } from "../support/require.ts";

function bench(...args: string[]) {
  const command = [join(root, "scripts/bench.ts"), ...args];
  return spawnSync(process.execPath, command, { encoding: "utf8" });
}

describe("npm run bench", () => {
  test("without a name lists every bench with what it measures", () => {
    const { status, stdout } = bench();
    assert.equal(status, 0);
    for (const file of globSync("bench/*.ts", { cwd: root })) {
      assert.match(stdout, new RegExp(`^  ${basename(file, ".ts")} +\\S.{20,}\\.$`, "m"));
    }
  });

  test("refuses a name that there is not, and says which there are", () => {
    const { status, stderr } = bench("quue");
    assert.equal(status, 2);
    assert.match(stderr, /no bench "quue"/);
    assert.match(stderr, /^ {2}queue /m);
  });
});

describe("the time of a command", () => {
  test("is its wall clock and the CPU of it and its children", async () => {
    const busy =
      "const end = process.cpuUsage().user + 2e5; while (process.cpuUsage().user < end);";
    const nested = `require("child_process").execFileSync(process.execPath, ["-e", ${JSON.stringify(busy)}])`;
    const { wall_s, cpu_s } = await timeCommand(process.execPath, ["-e", nested]);
    assert.ok(cpu_s >= 0.2, `${cpu_s} s of CPU`);
    assert.ok(wall_s >= 0.2, `${wall_s} s`);
  });

  test("is no time when the command fails", async () => {
    await assert.rejects(timeCommand(process.execPath, ["-e", "process.exit(7)"]), /ended with 7/);
  });
});
