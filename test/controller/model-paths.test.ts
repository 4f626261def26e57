import assert from "node:assert/strict";
import { mkdir, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, test } from "node:test";
import fc from "fast-check";
import {
  directoryNames,
  findCheckpoints,
  isLocal,
  joinAsPathlib,
  lookAt,
} from "../../src/controller/model-paths.ts";
import { temporaryDirectory } from "../support/temporary.ts";

describe("a checkpoint pattern", () => {
  const found = (names: readonly string[], pattern: string) =>
    findCheckpoints(names, pattern).map(({ name, step }) => `${name}=${step}`);

  test("takes {step} as digits, * as anything, and the rest as it is", () => {
    const names = [
      "step_1",
      "step_1x",
      "xstep_1",
      "step_",
      "step_a",
      "STEP_1",
      "step-1",
      "step_+1",
    ];
    assert.deepEqual(found(names, "step_{step}"), ["step_1=1"]);
    assert.deepEqual(found(names, "*step_{step}*"), ["step_1=1", "step_1x=1", "xstep_1=1"]);
    assert.deepEqual(found(["a.b+(1)[x]", "aXb+(1)[x]"], "a.b+({step})[x]"), ["a.b+(1)[x]=1"]);
    assert.deepEqual(found(["^1$", "\\1|"], "^{step}$"), ["^1$=1"]);
  });

  test("sorts by step as a number, then by name, and keeps both spellings of one step", () => {
    assert.deepEqual(found(["s_100", "s_20", "s_0100", "s_3"], "s_{step}"), [
      "s_3=3",
      "s_20=20",
      "s_0100=100",
      "s_100=100",
    ]);
  });

  test("reads steps beyond 2^53 exactly", () => {
    const names = ["s9007199254740993", "s9007199254740992", "s1"];
    assert.deepEqual(found(names, "s{step}"), [
      "s1=1",
      "s9007199254740992=9007199254740992",
      "s9007199254740993=9007199254740993",
    ]);
  });

  test("finds each directory that was named after it, in order", () => {
    const literal = fc.string({ unit: fc.constantFrom(..."ab.-_+$^()[]|"), maxLength: 4 });
    fc.assert(
      fc.property(
        literal,
        literal,
        fc.uniqueArray(fc.bigInt({ min: 0n, max: 2n ** 70n }), { maxLength: 20 }),
        (before, after, steps) => {
          const names = steps.map((step) => `${before}${step}${after}`);
          const sorted = [...steps].sort((a, b) => (a < b ? -1 : 1));
          assert.deepEqual(
            findCheckpoints(names, `${before}{step}${after}`).map(({ step }) => BigInt(step)),
            sorted,
          );
        },
      ),
    );
  });
});

test("directories are those on disk and those behind symbolic links, no files", async () => {
  await using place = await temporaryDirectory();
  const at = (name: string) => join(place.path, name);
  await mkdir(at("real"));
  await writeFile(at("file"), "");
  await symlink(at("real"), at("link"));
  await symlink(at("file"), at("link-to-file"));
  await symlink(at("nowhere"), at("dangling"));
  assert.deepEqual((await directoryNames(place.path)).sort(), ["link", "real"]);
});

test("a path is there, not there, or perhaps the id of a model on the Hub", async () => {
  await using place = await temporaryDirectory();
  await mkdir(join(place.path, "models/tiny"), { recursive: true });
  const looks = async (path: string) => await lookAt(path, place.path);
  assert.equal(await looks("models/tiny"), "present");
  assert.equal(await looks(join(place.path, "models")), "present");
  assert.equal(await looks("./models/other"), "missing");
  assert.equal(await looks("/nowhere/at/all"), "missing");
  assert.equal(await looks("a/b/c"), "missing", "a model's id has one slash at most");
  assert.equal(await looks("org/model-7B_v1.0"), "unknown");
  assert.equal(await looks("gpt2"), "unknown");
  assert.equal(isLocal("../x") && isLocal("/x") && isLocal(".") && !isLocal(".x/y"), true);
});

test("a checkpoint's path is written as Python's pathlib does", () => {
  // What Path(path) / "s1" gives, by path.
  const expected = {
    "/a/b": "/a/b/s1",
    "/a/b/": "/a/b/s1",
    "/a//b/./c": "/a/b/c/s1",
    "//a/b": "//a/b/s1",
    "///a": "/a/s1",
    "/": "/s1",
    "./a": "a/s1",
    "a/../b": "a/../b/s1",
    ".": "s1",
    "..": "../s1",
  };
  for (const [path, joined] of Object.entries(expected))
    assert.equal(joinAsPathlib(path, "s1"), joined);
});
