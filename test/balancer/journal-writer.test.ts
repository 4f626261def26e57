import assert from "node:assert/strict";
import { open, readdir } from "node:fs/promises";
import { join } from "node:path";
import { describe, test } from "node:test";
import { type AppendFile, JournalWriter } from "../../src/balancer/journal-writer.ts";
import { temporaryDirectory } from "../support/temporary.ts";
import { until } from "../support/until.ts";

interface Disk {
  written: string;
  writes: number;
  closed: boolean;
}

/** A file on a disk that takes so many bytes at a time, after `before`, and of which some are left. */
function openDisk(options: {
  readonly bytesAtOnce?: number;
  readonly room?: number;
  readonly before?: () => Promise<unknown>;
}): { disk: Disk; errors: unknown[]; writer: JournalWriter } {
  const { bytesAtOnce = Number.POSITIVE_INFINITY, room = Number.POSITIVE_INFINITY } = options;
  const disk: Disk = { written: "", writes: 0, closed: false };
  const errors: unknown[] = [];
  const file = {
    writev: async (pieces: readonly Buffer[]) => {
      await options.before?.();
      disk.writes += 1;
      const left = room - disk.written.length;
      if (left <= 0) throw Object.assign(new Error("no space"), { code: "ENOSPC" });
      const bytes = Buffer.concat(pieces).subarray(0, Math.min(bytesAtOnce, left));
      disk.written += bytes.toString("latin1");
      return { bytesWritten: bytes.length, buffers: [] };
    },
    close: async () => {
      disk.closed = true;
    },
  } as unknown as AppendFile;
  const writer = new JournalWriter({
    path: "journal",
    line: Buffer.from("line\n"),
    onError: (error) => errors.push(error),
    isDispensable: false,
    openFile: async () => file,
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
    assert.deepEqual([disk.closed, errors], [true, []]);
  });

  test("writes without being told to, and many records at once", async () => {
    const { disk, writer } = openDisk({});
    for (let n = 0; n < 1_000; n++) writer.append([Buffer.from("record\n")]);
    await until(() => disk.written.length === 7_005);
    assert.equal(disk.writes, 1);
    await writer.close();
  });

  test("writes shared bytes in their place, where they are, and lets go of them when they are written or never will be", async () => {
    const go = Promise.withResolvers<void>();
    const { disk, writer } = openDisk({ room: 30, before: async () => await go.promise });
    const retained = new Set<string>();
    const share = (text: string): boolean => {
      const retain = () => {
        retained.add(text);
        return () => assert.ok(retained.delete(text), `${text} was let go of twice`);
      };
      return writer.append([Buffer.from("<")], { chunks: [Buffer.from(text)], retain });
    };
    assert.ok(share("one"));
    assert.ok(writer.append([Buffer.from(">copied")]));
    assert.ok(share("two"));
    const written = writer.flushed();
    assert.ok(share("three"));
    assert.deepEqual([...retained], ["one", "two", "three"]);
    go.resolve();
    assert.ok(await written);
    assert.equal(disk.written, "line\n<one>copied<two<three");
    assert.equal(retained.size, 0);
    share("four");
    share("five");
    const failed = writer.flushed();
    share("six");
    assert.equal(await failed, false);
    assert.equal(share("seven"), false);
    assert.equal(retained.size, 0);
    await writer.close();
  });

  test("gives up on a full disk, says so once, and holds nothing up", async () => {
    const { disk, errors, writer } = openDisk({ room: 12 });
    assert.ok(writer.append([Buffer.from("0123456789")]));
    assert.equal(await writer.flushed(), false);
    assert.equal(disk.written, "line\n0123456");
    assert.equal(writer.append([Buffer.from("more")]), false);
    await writer.close();
    assert.equal(errors.length, 1);
    assert.equal(disk.closed, true);
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
          await using file = await open(path, "wx");
          await file.write("x");
          const error = Object.assign(new Error("no space"), { code: "ENOSPC" });
          const writev = async () => await Promise.reject(error);
          return { writev, close: async () => {} } as unknown as AppendFile;
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
