import assert from "node:assert/strict";
import { constants, open, readdir, readFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import type { OpenFile } from "../../src/balancer/journal-file.ts";
import { JournalWriter } from "../../src/balancer/journal-writer.ts";
import { temporaryDirectory } from "../support/temporary.ts";
import { until } from "../support/until.ts";

interface Disk {
  written: string;
  /** Bytes of each write. */
  writes: number[];
  /** Of these, past the page cache. */
  direct: number[];
  closed: number;
}

/** A file on a disk that takes so many bytes at a time, after `before`, and of which some are left. */
function openDisk(options: {
  readonly bytesAtOnce?: number;
  readonly room?: number;
  readonly before?: () => Promise<unknown>;
  /** Default: it takes what is whole pages. `never`: opens no such file. `refused`: opens it, and takes nothing. */
  readonly directly?: "never" | "refused";
  /** Of the file system, as statfs(2) numbers it. Default: ext4. */
  readonly type?: number;
}): { disk: Disk; errors: unknown[]; writer: JournalWriter } {
  const { bytesAtOnce = Number.POSITIVE_INFINITY, room = Number.POSITIVE_INFINITY } = options;
  const disk: Disk = { written: "", writes: [], direct: [], closed: 0 };
  const errors: unknown[] = [];
  const invalid = Object.assign(new Error("no such way"), { code: "EINVAL" });
  const fileOf = (isDirect: boolean): OpenFile => ({
    writev: async (pieces, position) => {
      await options.before?.();
      assert.equal(position, disk.written.length);
      const isOfPages = pieces.every(({ byteLength }) => byteLength % 4_096 === 0);
      if (isDirect && (options.directly === "refused" || !isOfPages)) throw invalid;
      const left = room - disk.written.length;
      if (left <= 0) throw Object.assign(new Error("no space"), { code: "ENOSPC" });
      const bytes = Buffer.concat(pieces).subarray(0, Math.min(bytesAtOnce, left));
      disk.writes.push(bytes.length);
      if (isDirect) disk.direct.push(bytes.length);
      disk.written += bytes.toString("latin1");
      return { bytesWritten: bytes.length };
    },
    close: async () => {
      disk.closed += 1;
    },
  });
  const writer = new JournalWriter({
    path: join(tmpdir(), "journal"),
    line: Buffer.from("line\n"),
    onError: (error) => errors.push(error),
    isDispensable: false,
    typeOf: async () => options.type ?? 0xef53,
    openFile: async (_, flags) => {
      const isDirect = typeof flags === "number" && (flags & constants.O_DIRECT) !== 0;
      if (isDirect && options.directly === "never") throw invalid;
      return fileOf(isDirect);
    },
  });
  return { disk, errors, writer };
}

describe("a journal's writer", () => {
  test("writes all, in order, however little the disk takes at a time", async () => {
    const { disk, errors, writer } = openDisk({ bytesAtOnce: 7 });
    const expected = ["line\n"];
    for (let n = 0; n < 50; n++) {
      assert.ok(writer.append([Buffer.from(`${n}`), Buffer.from(","), Buffer.alloc(n, "x")]));
      expected.push(`${n},${"x".repeat(n)}`);
      if (n % 20 === 0) assert.ok(await writer.flushed());
    }
    await writer.close();
    assert.equal(disk.written, expected.join(""));
    assert.deepEqual([disk.closed, errors], [2, []]);
  });

  test("writes without being told to, and many records at once", async () => {
    const { disk, writer } = openDisk({});
    for (let n = 0; n < 1_000; n++) writer.append([Buffer.from("record\n")]);
    await until(() => disk.written.length === 7_005);
    assert.deepEqual([disk.writes, disk.direct], [[7_005], []]);
    await writer.close();
  });

  const block = 256 << 10;
  const large = Buffer.alloc(3 * block, "x");

  test("writes past the page cache what comes so fast that it fills blocks, and the rest through it", async () => {
    const { disk, writer } = openDisk({});
    assert.ok(writer.append([large]));
    await until(() => disk.written.length === 5 + large.length);
    assert.deepEqual([disk.writes, disk.direct], [[3 * block, 5], [3 * block]]);
    // What has waited for less than a block is not made to wait for the rest of it: no block is whole any more.
    assert.ok(writer.append([large]));
    assert.ok(await writer.flushed());
    assert.deepEqual(disk.direct, [3 * block, 2 * block]);
    await writer.close();
    assert.equal(disk.written, `line\n${large}${large}`);
  });

  test("writes nothing past the page cache on NFS, which would wait for the whole file each time", async () => {
    const { disk, writer } = openDisk({ type: 0x6969 });
    assert.ok(writer.append([large]));
    await writer.close();
    assert.equal(disk.written, `line\n${large}`);
    assert.deepEqual(disk.direct, []);
  });

  test("leaves to the page cache what comes while the disk does not keep up", async () => {
    const go = Promise.withResolvers<void>();
    const { disk, writer } = openDisk({ before: async () => await go.promise });
    for (let n = 0; n < 50; n++) assert.ok(writer.append([large]));
    go.resolve();
    assert.ok(await writer.flushed());
    assert.ok(writer.append([large]));
    await writer.close();
    assert.equal(disk.written.length, 5 + 51 * large.length);
    assert.deepEqual(disk.direct, [2 * block]);
  });

  for (const [what, options] of Object.entries({
    "a file system that opens no file so": { directly: "never" },
    "a file system that opens it, and takes nothing so": { directly: "refused" },
    "a disk that takes a part": { bytesAtOnce: 100_000 },
  } as const)) {
    test(`gets past ${what}`, async () => {
      const { disk, errors, writer } = openDisk(options);
      for (let n = 0; n < 3; n++) {
        assert.ok(writer.append([large]));
        assert.ok(await writer.flushed());
      }
      await writer.close();
      assert.equal(disk.written, `line\n${large}${large}${large}`);
      assert.deepEqual(errors, []);
    });
  }

  test("writes all of it to a real file, of which nobody else may read", async () => {
    await using directory = await temporaryDirectory();
    const path = join(directory.path, "new", "journal");
    const line = Buffer.from("line\n");
    const errors: unknown[] = [];
    const onError = (error: unknown) => errors.push(error);
    const writer = new JournalWriter({ path, line, onError, isDispensable: false });
    const expected = ["line\n"];
    for (let n = 0; n < 200; n++) {
      const piece = `${n}`.repeat((n * 7_919) % 30_000);
      assert.ok(writer.append([Buffer.from(piece)]));
      expected.push(piece);
      if (n % 50 === 0) assert.ok(await writer.flushed());
    }
    await writer.close();
    assert.deepEqual(errors, []);
    assert.ok((await readFile(path, "latin1")) === expected.join(""));
  });

  test("gives up on a full disk, says so once, and holds nothing up", async () => {
    const { disk, errors, writer } = openDisk({ room: 12 });
    assert.ok(writer.append([Buffer.from("0123456789")]));
    assert.equal(await writer.flushed(), false);
    assert.equal(disk.written, "line\n0123456");
    assert.equal(writer.append([Buffer.from("more")]), false);
    await writer.close();
    assert.equal(errors.length, 1);
    assert.equal(disk.closed, 2);
  });

  test("gives its room back when the disk is full, if it can be done without", async () => {
    await using directory = await temporaryDirectory();
    const isLeft = async (isDispensable: boolean): Promise<boolean> => {
      const path = join(directory.path, `${isDispensable}`);
      const writer = new JournalWriter({
        path,
        line: Buffer.from("line\n"),
        onError: () => {},
        isDispensable,
        openFile: async () => {
          await using file = await open(path, "w");
          await file.write("x");
          const error = Object.assign(new Error("no space"), { code: "ENOSPC" });
          const writev = async () => await Promise.reject(error);
          return { writev, close: async () => {} };
        },
      });
      writer.append([Buffer.from("record")]);
      assert.equal(await writer.flushed(), false);
      await writer.close();
      return (await readdir(directory.path)).includes(`${isDispensable}`);
    };
    assert.deepEqual([await isLeft(true), await isLeft(false)], [false, true]);
  });

  test("keeps no more than it may hold while the disk is slow", async () => {
    const go = Promise.withResolvers<void>();
    const { disk, writer } = openDisk({ before: async () => await go.promise });
    const megabyte = Buffer.alloc(1 << 20, "x");
    let kept = 0;
    while (writer.append([megabyte])) kept += 1;
    assert.ok(kept >= 64 && kept < 70, `${kept} MiB`);
    go.resolve();
    assert.ok(await writer.flushed());
    assert.ok(writer.append([megabyte]));
    await writer.close();
    assert.equal(disk.written.length, 5 + (kept + 1) * megabyte.length);
  });
});
