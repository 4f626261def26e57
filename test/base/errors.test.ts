import assert from "node:assert/strict";
import { open } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import {
  explainSystemError,
  firstThrown,
  messageOf,
  SystemCallError,
} from "../../src/base/errors.ts";
import { writeFileAtomic } from "../../src/base/files.ts";
import { temporaryDirectory } from "../support/temporary.ts";

/** As libuv makes them. */
function refused(code: string, errno: number, more: object = {}): Error {
  return Object.assign(new Error(`${code}: ${code}, write`), {
    code,
    errno: -errno,
    syscall: "write",
    ...more,
  });
}

test("a refused call that a person can mend says what was to be done where, why not, and the way out", () => {
  const explained = explainSystemError(refused("ENOSPC", 28, { path: "/run/plan.json" }));
  assert.ok(explained instanceof SystemCallError);
  assert.deepEqual([explained.code, explained.exitCode], ["system.enospc", 3]);
  assert.match(explained.message, /^Cannot write "\/run\/plan\.json": the file system is full.*df/);
  assert.match(explained.hint ?? "", /repeat the command/);
  const moved = refused("EROFS", 30, { syscall: "rename", path: "/a", dest: "/b" });
  assert.match(messageOf(explainSystemError(moved)), /^Cannot rename "\/a" to "\/b": .*read-only/);
});

test("a refused call of which nobody can mend anything stays what it is, as does any other error", () => {
  for (const error of [refused("ENOENT", 2), new TypeError("no"), undefined]) {
    assert.equal(explainSystemError(error), error);
  }
});

test("names that libuv lacks are said as everybody knows them", () => {
  const unknown = "Unknown system error -122";
  const error = Object.assign(refused(unknown, 122), { message: `${unknown}: ${unknown}, write` });
  assert.equal(messageOf(error), "EDQUOT, write");
  assert.match(messageOf(explainSystemError(error)), /quota/);
});

test("of an error and those of cleaning up after it, the first one counts", async () => {
  const fails = async () => {
    await using _first = {
      [Symbol.asyncDispose]: () => Promise.reject(new Error("third")),
    };
    await using _second = {
      [Symbol.asyncDispose]: () => Promise.reject(new Error("second")),
    };
    throw new Error("first");
  };
  const thrown = await fails().catch((error: unknown) => error);
  assert.equal(messageOf(firstThrown(thrown)), "first");
  assert.equal(firstThrown(5), 5);
});

test("a refused write to an open file names the file that was to be written", async () => {
  await using directory = await temporaryDirectory();
  const path = join(directory.path, "plan.json");
  const content = (async function* () {
    // A file that is open for reading only: the call fails without knowing a path.
    const file = await open("/dev/null", "r");
    try {
      await file.write("x");
    } finally {
      await file.close();
    }
    yield Buffer.from("never");
  })();
  await assert.rejects(writeFileAtomic(path, content), { code: "EBADF", path });
});
