import assert from "node:assert/strict";
import { open, readFile, rm, stat, writeFile } from "node:fs/promises";
import { test } from "node:test";
import { runToEnd } from "../../src/base/spawn.ts";
import { FencedError, startHeartbeat, writeEvictNote } from "../../src/queue/heartbeat.ts";
import {
  identifyThisProcess,
  type OwnerIdentity,
  parseOwnerRecord,
  recordBytes,
  relationTo,
  renderOwnerRecord,
} from "../../src/queue/owner-record.ts";
import type { OwnerId } from "../../src/run/ids.ts";
import { RunLayout } from "../../src/run/layout.ts";
import { ManualClock } from "../support/manual-clock.ts";
import { temporaryDirectory } from "../support/temporary.ts";
import { until } from "../support/until.ts";

const owner = "local-p1-0001" as OwnerId;

async function place() {
  const directory = await temporaryDirectory();
  const layout = new RunLayout(directory.path);
  const clock = new ManualClock();
  const identity = await identifyThisProcess(owner, { job: "123_4", restart: 1 });
  const path = layout.heartbeat(owner);
  const read = async () => parseOwnerRecord(await readFile(path, "utf8"));
  return {
    layout,
    clock,
    identity,
    path,
    read,
    [Symbol.asyncDispose]: () => directory[Symbol.asyncDispose](),
  };
}

test("a heartbeat that falls silent leaves its record: others find its owner dead, and what it holds", async () => {
  await using at = await place();
  {
    await using beats = await startHeartbeat(at.layout, at);
    beats.fallSilent();
  }
  assert.deepEqual(await at.read(), { ...at.identity, state: "live", beat: 0 });
});

test("a heartbeat is on disk, whole, before it is given, and goes when it ends in good order", async () => {
  await using at = await place();
  {
    await using _beats = await startHeartbeat(at.layout, at);
    assert.deepEqual(await at.read(), { ...at.identity, state: "live", beat: 0 });
    await assert.rejects(startHeartbeat(at.layout, at), RangeError);
  }
  await assert.rejects(stat(at.path), { code: "ENOENT" });
});

test("a heartbeat moves in place every 15 s, give or take a fifth", async () => {
  await using at = await place();
  await using _beats = await startHeartbeat(at.layout, at);
  const { ino } = await stat(at.path);
  for (let beat = 1; beat <= 3; beat++) {
    await until(() => at.clock.sleepers === 2);
    at.clock.advance(11_000);
    assert.equal((await at.read())?.beat, beat - 1);
    at.clock.advance(7_000);
    await until(async () => (await at.read())?.beat === beat);
  }
  const after = await stat(at.path);
  assert.deepEqual([after.ino, after.size], [ino, recordBytes]);
});

test("an owner fences itself when it could not renew for 300 s, and not before", async () => {
  await using at = await place();
  await using beats = await startHeartbeat(at.layout, at);
  // The file system refuses every beat from here on.
  await rm(at.path);
  for (let waitedMs = 0; waitedMs < 299_000; waitedMs += 13_000) {
    await until(() => at.clock.sleepers === 2);
    assert.equal(beats.fenced.aborted, false, `after ${waitedMs} ms`);
    at.clock.advance(13_000);
  }
  at.clock.advance(1_000);
  await until(() => beats.fenced.aborted);
  assert.ok(beats.fenced.reason instanceof FencedError);
  assert.equal(beats.fenced.reason.why, "not-renewed");
});

test("an owner that was itself stopped for too long fences itself before it beats again", async () => {
  await using at = await place();
  await using beats = await startHeartbeat(at.layout, at);
  await until(() => at.clock.sleepers === 2);
  at.clock.advance(400_000);
  await until(() => beats.fenced.aborted);
  assert.equal((await at.read())?.beat, 0);
});

test("an owner obeys an evict note at its next beat", async () => {
  await using at = await place();
  await using beats = await startHeartbeat(at.layout, at);
  await writeEvictNote(at.layout, owner, "a test");
  await until(() => at.clock.sleepers === 2);
  at.clock.advance(18_000);
  await until(() => beats.fenced.aborted);
  assert.equal((beats.fenced.reason as FencedError).why, "evicted");
});

test("a record tells who it is of, also half-written, and nothing when it is none", async () => {
  const identity = await identifyThisProcess(owner);
  const before = renderOwnerRecord({ ...identity, state: "live", beat: 41 });
  const after = renderOwnerRecord({ ...identity, state: "live", beat: 42 });
  for (const cut of [12, 500, 1010]) {
    const torn = Buffer.concat([after.subarray(0, cut), before.subarray(cut)]);
    assert.deepEqual(
      parseOwnerRecord(torn.toString()),
      { ...identity, state: "live", beat: 41 },
      `cut at ${cut}`,
    );
  }
  for (const text of [
    "",
    "x",
    before.toString().slice(0, 700),
    before.toString().replace('"pid"', '"pad"'),
  ]) {
    assert.equal(parseOwnerRecord(text), undefined);
  }
  const wide: OwnerIdentity = {
    ...identity,
    owner: "o".repeat(60),
    host: "h".repeat(253),
    job: "1".repeat(30),
    restart: 9,
  };
  assert.equal(renderOwnerRecord({ ...wide, state: "ended", beat: 1 }).length, recordBytes);
});

test("only the same machine, started once, with one process table, is here", async () => {
  const here = await identifyThisProcess(owner);
  const host = here.host === "localhost" ? "node1" : here.host;
  const me = { ...here, host };
  assert.equal(relationTo(me, me), "here");
  assert.equal(relationTo({ ...me, boot_id: "other" }, me), "rebooted");
  assert.equal(relationTo({ ...me, pid_namespace: "pid:[1]" }, me), "elsewhere");
  assert.equal(relationTo({ ...me, host: "node2", boot_id: "other" }, me), "elsewhere");
  const nameless = { ...me, host: "localhost.localdomain" };
  assert.equal(relationTo({ ...nameless, boot_id: "other" }, nameless), "elsewhere");
});

test("a heartbeat goes on after the file system came back", async () => {
  await using at = await place();
  await using beats = await startHeartbeat(at.layout, at);
  const content = await readFile(at.path);
  await rm(at.path);
  for (const _ of [1, 2, 3]) {
    await until(() => at.clock.sleepers === 2);
    at.clock.advance(18_000);
  }
  await until(() => at.clock.sleepers === 2);
  await writeFile(at.path, content);
  at.clock.advance(18_000);
  await until(async () => ((await at.read())?.beat ?? 0) > 0);
  assert.equal(beats.fenced.aborted, false);
});

test("an owner fences itself while a call to the file system hangs", async () => {
  await using at = await place();
  await using beats = await startHeartbeat(at.layout, at);
  await rm(at.path);
  await runToEnd("mkfifo", [at.path], { env: process.env });
  const pipe = await open(at.path, "r+");
  try {
    // A full pipe takes no more: the next write to it waits.
    await pipe.write(Buffer.alloc(65_536));
    await until(() => at.clock.sleepers === 2);
    at.clock.advance(18_000);
    await until(() => at.clock.sleepers === 1);
    at.clock.advance(282_000);
    await until(() => beats.fenced.aborted);
  } finally {
    await pipe.read(Buffer.alloc(65_536));
    await pipe.close();
  }
});
