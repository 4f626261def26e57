import assert from "node:assert/strict";
import { mkdir, readdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { OperatorError } from "../../src/base/errors.ts";
import { beginEpoch } from "../../src/queue/epoch.ts";
import { sweepLeftovers } from "../../src/queue/exclusive.ts";
import { openFsQueue } from "../../src/queue/fs-queue.ts";
import { QueueDamagedError } from "../../src/queue/queue-error.ts";
import type { OwnerId, ShardId } from "../../src/run/ids.ts";
import { RunLayout } from "../../src/run/layout.ts";
import { batchesOf, drain, lifeBatches, lifeShards, runChild } from "../contract/queue-child.ts";
import { recoverLife } from "../contract/queue-contract.ts";
import { isLong } from "../support/require.ts";
import { temporaryDirectory } from "../support/temporary.ts";
import { fsBackend, openAt } from "./fs-backend.ts";

const shard = "model--main.g1" as ShardId;
const alice = "alice" as OwnerId;

test("keeps the state of a batch in the name of an empty file", async () => {
  await using place = await fsBackend.place();
  await using queue = await openAt(place.address);
  const { entries } = new RunLayout(place.address).shard(1, shard);
  await queue.publish(shard, batchesOf(["b1", "b2"]));
  const lease = await queue.claim(shard, alice);
  assert.deepEqual((await readdir(entries)).sort(), ["b1.a1.o.alice", "b2.a1.r"]);
  await lease?.finish();
  assert.deepEqual((await readdir(entries)).sort(), ["b1.a1.d", "b2.a1.r"]);
  await drain(queue, { owner: alice, shards: [shard] });
  await queue.fold(shard);
  assert.deepEqual(await readdir(entries), ["folded.json"]);
});

test("wins a claim, an end and an opening that the file system did but reported as failed", async () => {
  for (const lie of ["rename:ENOENT", "rename:EIO", "rename:ESTALE", "link:EEXIST", "link:EIO"]) {
    await using place = await fsBackend.place();
    const first = await runChild(fsBackend, place, "live", alice, { EH_LIE: lie });
    // A release is not told from a reclaim by somebody else: it gives the same state either way.
    assert.equal(first.code, 0, `${lie}: ${first.stderr}`);
    await using queue = await place.open();
    for (const name of lifeShards) {
      assert.equal((await queue.census(name)).folded, true, `${lie}: ${name}`);
    }
    assert.deepEqual(await place.strays(), [], lie);
  }
});

test("ends with a clear error, and loses nothing, whichever call the file system refuses", async (t) => {
  const codes = ["ENOSPC", "EIO", "EACCES", "EROFS"];
  const stride = isLong ? 1 : 7;
  let refused = 0;
  for (let at = 1 + Math.floor(Math.random() * stride); ; at += stride * 2) {
    const two = await Promise.all([at, at + stride].map((one) => failAndRecover(one, codes)));
    refused += two.filter((one) => one).length;
    if (!two.includes(true)) break;
  }
  t.diagnostic(`${refused} calls refused`);
  assert.ok(refused >= 5);
});

test("goes on when the file system was away for a moment only", async () => {
  await using place = await fsBackend.place();
  await using queue = await place.open();
  await queue.publish(shard, batchesOf(["b1", "b2", "b3"]));
  const input = { owner: alice, shards: [shard] };
  // Somewhere between the opening of the shard and its end.
  const faults = { EH_FAIL_AT: "14", EH_FAIL_CODE: "ESTALE" };
  const ended = await runChild(fsBackend, place, "drain", input, faults);
  assert.equal(ended.code, 0, ended.stderr);
  assert.doesNotMatch(ended.stderr, /none refused/);
  assert.deepEqual(
    [...(await queue.census(shard)).batches.values()],
    Array(3).fill({ kind: "done", attempt: 1 }),
  );
});

/** @returns false when the child made fewer calls. */
async function failAndRecover(at: number, codes: readonly string[]): Promise<boolean> {
  await using place = await fsBackend.place();
  const code = codes[at % codes.length] as string;
  const what = `call ${at} refused with ${code}`;
  const interruptions = { EH_FAIL_AT: String(at), EH_FAIL_CODE: code };
  const ended = await runChild(fsBackend, place, "live", alice, interruptions);
  if (ended.code !== 0) {
    assert.match(ended.stderr, /code: 'queue\.access'/, `${what}: ${ended.stderr}`);
    assert.match(ended.stderr, /Cannot .* in ".*": (the file system|permission denied)/, what);
  }
  await recoverLife(place, alice, what);
  return !ended.stderr.includes("none refused");
}

test("says that the queue is gone when its directory was removed under it", async () => {
  await using place = await fsBackend.place();
  await using queue = await openAt(place.address);
  await queue.publish(shard, batchesOf(["b1"]));
  await queue.batches(shard);
  await rm(new RunLayout(place.address).queue, { recursive: true });
  for (const call of [
    () => queue.claim(shard, alice),
    () => queue.census(shard),
    () => openAt(place.address),
  ]) {
    await assert.rejects(call, { code: "queue.missing" });
  }
});

test("names the batches whose entries somebody removed", async () => {
  await using place = await fsBackend.place();
  const layout = new RunLayout(place.address);
  const clock = { now: () => 0, monotonic: () => 0, sleep: async () => {} };
  await using queue = await openFsQueue({ layout, clock });
  await queue.publish(shard, batchesOf(["b1", "b2"]));
  await queue.claim(shard, alice);
  await rm(join(layout.shard(1, shard).entries, "b2.a1.r"));
  await assert.rejects(queue.census(shard), (error) => {
    assert.ok(error instanceof QueueDamagedError);
    assert.match(error.message, /lacks "b2"$/);
    return true;
  });
});

test("ignores files in the shard that are no entries of it", async () => {
  await using place = await fsBackend.place();
  await using queue = await openAt(place.address);
  const { entries } = new RunLayout(place.address).shard(1, shard);
  await queue.publish(shard, batchesOf(["b1"]));
  await (await queue.claim(shard, alice))?.release();
  for (const name of [".nfs0001", "stranger.a1.r", "b1.a0.r", "README"]) {
    await writeFile(join(entries, name), "");
  }
  // As a scan beside a rename may show it.
  await writeFile(join(entries, "b1.a1.o.alice"), "");
  assert.deepEqual(
    [...(await queue.census(shard)).batches],
    [["b1", { kind: "ready", attempt: 2 }]],
  );
});

test("refuses a unit whose name is too long for a file, before anything is written", async () => {
  await using place = await fsBackend.place();
  await using queue = await openAt(place.address);
  const wide = `${"u".repeat(230)}--main.g1` as ShardId;
  await assert.rejects(queue.publish(wide, batchesOf(["b1"])), (error) => {
    assert.ok(error instanceof OperatorError);
    assert.match(error.hint ?? "", /shorter name/);
    return true;
  });
  assert.deepEqual(await queue.shards(), []);
});

test("leaves an older epoch alone", async () => {
  await using directory = await temporaryDirectory();
  const layout = new RunLayout(directory.path);
  await beginEpoch(layout, 1);
  await using old = await openFsQueue({ layout });
  await old.publish(shard, batchesOf(lifeBatches));
  const lease = await old.claim(shard, alice);
  await beginEpoch(layout, 2);
  await using next = await openFsQueue({ layout });
  assert.deepEqual([old.epoch, next.epoch], [1, 2]);
  assert.deepEqual(await next.shards(), []);
  assert.equal(await lease?.finish(), true, "a leaf at hand may end in its epoch");
});

test("sweeps what killed openers have left", async () => {
  await using place = await fsBackend.place();
  await using queue = await openAt(place.address);
  await queue.publish(shard, batchesOf(["b1"]));
  const shards = new RunLayout(place.address).shards(1);
  await mkdir(join(shards, `.${shard}.0123456789ab`));
  await writeFile(join(shards, `.${shard}.0123456789ab`, "b1.a1.r"), "");
  await mkdir(join(shards, `.${shard}0.0123456789ab`));
  await queue.claim(shard, alice);
  assert.deepEqual((await readdir(shards)).sort(), [`.${shard}0.0123456789ab`, shard]);
});

test("sweeps around an opener that is still at work", async () => {
  await using directory = await temporaryDirectory();
  const staging = join(directory.path, ".shard.0123456789ab");
  let working = true;
  const build = async (worker: number) => {
    for (let n = 0; working; n++) {
      await mkdir(staging, { recursive: true }).catch(() => {});
      await writeFile(join(staging, `${worker}-${n}`), "").catch(() => {});
    }
  };
  const builders = [1, 2, 3].map(build);
  for (let n = 0; n < 10; n++) await sweepLeftovers(directory.path, "shard");
  working = false;
  await Promise.all(builders);
  await sweepLeftovers(directory.path, "shard");
  assert.deepEqual(await readdir(directory.path), []);
});
