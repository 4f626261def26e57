import assert from "node:assert/strict";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, test } from "node:test";
import { writeFileAtomic, writeFileExclusive } from "../../src/base/files.ts";
import { temporaryDirectory } from "../support/temporary.ts";

describe("writeFileAtomic", () => {
  test("replaces the content and leaves no temporary file", async () => {
    await using directory = await temporaryDirectory();
    const path = join(directory.path, "plan.json");
    await writeFileAtomic(path, "old");
    await writeFileAtomic(path, "new");
    assert.equal(await readFile(path, "utf8"), "new");
    assert.deepEqual(await readdir(directory.path), ["plan.json"]);
  });

  test("leaves nothing behind where it can't write", async () => {
    await using directory = await temporaryDirectory();
    await writeFileAtomic(join(directory.path, "file"), "");
    await assert.rejects(writeFileAtomic(join(directory.path, "file", "below"), ""), {
      code: "ENOTDIR",
    });
    assert.deepEqual(await readdir(directory.path), ["file"]);
  });
});

describe("writeFileExclusive", () => {
  test("lets exactly one of many writers win, with its whole content", async () => {
    await using directory = await temporaryDirectory();
    const path = join(directory.path, "record");
    const contents = Array.from({ length: 20 }, (_, i) => `${i}`.repeat(1000));
    const won = await Promise.all(contents.map((content) => writeFileExclusive(path, content)));
    assert.equal(won.filter(Boolean).length, 1);
    assert.equal(await readFile(path, "utf8"), contents[won.indexOf(true)]);
    assert.deepEqual(await readdir(directory.path), ["record"]);
  });
});
