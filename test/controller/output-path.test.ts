import assert from "node:assert/strict";
import { readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, test } from "node:test";
import { assertCanHoldResults } from "../../src/controller/output-path.ts";
import { temporaryDirectory } from "../support/temporary.ts";

describe("output_path", () => {
  test("may be there, or not yet, and nothing is made", async () => {
    await using directory = await temporaryDirectory();
    await assertCanHoldResults(directory.path);
    await assertCanHoldResults(join(directory.path, "a/b/c"));
    assert.deepEqual(await readdir(directory.path), []);
  });

  test("is refused where a file is in the way, itself or above it", async () => {
    await using directory = await temporaryDirectory();
    const file = join(directory.path, "file");
    await writeFile(file, "");
    for (const path of [file, join(file, "results"), join(file, "a/b")]) {
      await assert.rejects(assertCanHoldResults(path), {
        code: "results.no-directory",
        exitCode: 2,
        message: `Cannot write results to "${path}": "${file}" is a file`,
      });
    }
  });

  test("is refused where the system can't look, with what it says", async () => {
    const path = `/${"long".repeat(100)}/results`;
    await assert.rejects(assertCanHoldResults(path), {
      code: "results.access",
      exitCode: 3,
      message: /^Cannot write results to "\/long.*\/results": "\/long.*": ENAMETOOLONG/,
    });
  });
});
