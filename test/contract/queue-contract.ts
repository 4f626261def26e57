import assert from "node:assert/strict";
import { describe, type TestContext, test } from "node:test";
import { type Lease, type Queue, UnknownShardError } from "../../src/queue/queue.ts";
import { reapShard } from "../../src/queue/reap.ts";
import type { BatchId, OwnerId, ShardId } from "../../src/run/ids.ts";
import { isLong } from "../support/require.ts";
import type { QueueBackend, QueuePlace } from "./queue-backend.ts";
import {
  batchesOf,
  type Claimed,
  drain,
  lifeBatches,
  lifeShards,
  runChild,
} from "./queue-child.ts";
import { checkAgainstModel } from "./queue-model.ts";

const shard = "model--main.g1" as ShardId;
const [alice, bob] = ["alice", "bob"] as OwnerId[] as [OwnerId, OwnerId];

/** The contract of `Queue`: every backend passes it, word for word. */
export function queueContract(backend: QueueBackend): void {
  describe(`${backend.name} queue`, () => {
    describe("one process", () => oneProcess(backend));
    describe("many processes", () => manyProcesses(backend));
  });
}

async function withShard(
  backend: QueueBackend,
  ids: readonly string[],
  body: (queue: Queue, place: QueuePlace) => Promise<void>,
): Promise<void> {
  await using place = await backend.place();
  await using queue = await place.open();
  await queue.publish(shard, batchesOf(ids));
  await body(queue, place);
}

async function mustClaim(queue: Queue, owner: OwnerId): Promise<Lease> {
  const lease = await queue.claim(shard, owner);
  assert.ok(lease !== undefined, "nothing is ready");
  return lease;
}

async function statesOf(queue: Queue, of = shard): Promise<string[]> {
  const { batches } = await queue.census(of);
  return [...batches].map(([id, state]) => {
    const owner = state.kind === "owned" ? ` ${state.owner}` : "";
    return `${id} ${state.kind} ${state.attempt}${owner}`;
  });
}

function oneProcess(backend: QueueBackend): void {
  test("publishes a shard once, and leaves it as it is from then on", async () => {
    await using place = await backend.place();
    await using queue = await place.open();
    assert.deepEqual(await queue.shards(), []);
    assert.equal(await queue.publish(shard, batchesOf(["b1", "b2"])), true);
    assert.equal(await queue.publish(shard, batchesOf(["b3"])), false);
    await queue.publish("a--main.g1" as ShardId, batchesOf(["b1"]));
    assert.deepEqual(await queue.shards(), ["a--main.g1", shard]);
    assert.deepEqual(await queue.batches(shard), batchesOf(["b1", "b2"]));
  });

  test("refuses a shard without batches, with one twice, or with a name that is none", async () => {
    await using place = await backend.place();
    await using queue = await place.open();
    const refused = [[], ["b1", "b1"], ["B1"], ["b.1"], ["b".repeat(41)]];
    for (const ids of refused) {
      await assert.rejects(queue.publish(shard, batchesOf(ids)), RangeError, ids.join());
    }
    await assert.rejects(queue.publish("../x.g1" as ShardId, batchesOf(["b1"])), RangeError);
    assert.deepEqual(await queue.shards(), []);
  });

  test("knows what it holds: nothing that has come to an end, however it did", async () => {
    await withShard(backend, ["b1", "b2", "b3", "b4"], async (queue) => {
      assert.equal(queue.held, 0);
      const leases = [];
      for (let n = 0; n < 4; n++) leases.push(await mustClaim(queue, alice));
      assert.equal(queue.held, 4);
      await leases[0]?.finish();
      await leases[1]?.release();
      assert.equal(queue.held, 2);
      await queue.reclaim(shard, alice);
      for (const lease of leases) await lease[Symbol.asyncDispose]();
      assert.equal(queue.held, 0);
    });
  });

  test("names a shard that was never published", async () => {
    await using place = await backend.place();
    await using queue = await place.open();
    for (const call of [
      () => queue.batches(shard),
      () => queue.claim(shard, alice),
      () => queue.census(shard),
      () => queue.reclaim(shard, alice),
      () => queue.fold(shard),
    ]) {
      await assert.rejects(call, UnknownShardError);
    }
  });

  test("counts an unopened shard as all ready, in the order of publishing", async () => {
    await withShard(backend, ["b3", "b1", "b2"], async (queue) => {
      const census = await queue.census(shard);
      assert.deepEqual([census.opened, census.folded], [false, false]);
      assert.deepEqual(await statesOf(queue), ["b3 ready 1", "b1 ready 1", "b2 ready 1"]);
      assert.deepEqual(await queue.reclaim(shard, alice), []);
      assert.equal(await queue.fold(shard), false);
    });
  });

  test("gives a lone claimer the batches in order, longest expected first", async () => {
    const ids = Array.from({ length: 60 }, (_, index) => `b${(index * 37) % 60}`);
    await withShard(backend, ids, async (queue) => {
      const { claims } = await drain(queue, { owner: alice, shards: [shard] });
      assert.deepEqual(
        claims,
        ids.map((id) => `${shard} ${id} 1`),
      );
    });
  });

  test("leads a batch through ready, owned and done", async () => {
    await withShard(backend, ["b1", "b2"], async (queue, place) => {
      const lease = await mustClaim(queue, alice);
      assert.deepEqual([lease.shard, lease.batch, lease.attempt], [shard, batchesOf(["b1"])[0], 1]);
      await using other = await place.open();
      assert.deepEqual(await statesOf(other), ["b1 owned 1 alice", "b2 ready 1"]);
      assert.equal(await lease.finish(), true);
      assert.equal(await lease.finish(), true, "doing it twice is harmless");
      assert.equal(await lease.release(), false);
      assert.deepEqual(await statesOf(other), ["b1 done 1", "b2 ready 1"]);
      assert.equal((await other.census(shard)).opened, true);
    });
  });

  test("offers a batch again, with the next attempt, when its lease is released or dropped", async () => {
    await withShard(backend, ["b1"], async (queue) => {
      const first = await mustClaim(queue, alice);
      assert.equal(await queue.claim(shard, bob), undefined);
      assert.equal(await first.release(), true);
      assert.equal(await first.finish(), false);
      {
        await using second = await mustClaim(queue, bob);
        assert.equal(second.attempt, 2);
      }
      assert.deepEqual(await statesOf(queue), ["b1 ready 3"]);
    });
  });

  test("keeps a settled batch settled when its lease is disposed", async () => {
    await withShard(backend, ["b1"], async (queue) => {
      {
        await using lease = await mustClaim(queue, alice);
        await lease.finish();
      }
      assert.deepEqual(await statesOf(queue), ["b1 done 1"]);
    });
  });

  test("refuses the end of a lease that was reclaimed meanwhile", async () => {
    await withShard(backend, ["b1", "b2", "b3"], async (queue) => {
      const [late, later] = [await mustClaim(queue, alice), await mustClaim(queue, alice)];
      const kept = await mustClaim(queue, bob);
      assert.deepEqual([...(await queue.reclaim(shard, alice))].sort(), ["b1", "b2"]);
      assert.deepEqual(await queue.reclaim(shard, alice), [], "doing it twice is harmless");
      assert.equal(await late.finish(), false);
      assert.equal(await later.release(), false);
      assert.equal(await kept.finish(), true);
      const { claims } = await drain(queue, { owner: bob, shards: [shard] });
      assert.deepEqual(claims, [`${shard} b1 2`, `${shard} b2 2`]);
      assert.equal(await late.finish(), false, "the batch is done, but not by this lease");
    });
  });

  test("reaps the batches of dead owners only", async () => {
    await withShard(backend, ["b1", "b2", "b3"], async (queue) => {
      for (const owner of [alice, bob, "carol" as OwnerId]) await mustClaim(queue, owner);
      const verdicts = new Map([
        [alice, "dead"],
        [bob, "alive"],
      ] as const);
      const reaped = await reapShard(
        queue,
        shard,
        async (owner) => verdicts.get(owner) ?? "unknown",
      );
      assert.deepEqual([...reaped], [[alice, ["b1"]]]);
      assert.deepEqual(await statesOf(queue), ["b1 ready 2", "b2 owned 1 bob", "b3 owned 1 carol"]);
    });
  });

  test("folds a shard whose batches are all done, and only such a one", async () => {
    await withShard(backend, ["b1", "b2"], async (queue, place) => {
      const first = await mustClaim(queue, alice);
      await first.release();
      const last = await mustClaim(queue, alice);
      assert.equal(await queue.fold(shard), false);
      await last.finish();
      assert.equal(await queue.fold(shard), false);
      await drain(queue, { owner: alice, shards: [shard] });
      await using other = await place.open();
      const before = await statesOf(other);
      assert.deepEqual(
        (await Promise.all([queue.fold(shard), other.fold(shard)])).sort(),
        [false, true],
        "one of two folds",
      );
      assert.equal(await queue.fold(shard), false);
      assert.deepEqual(await statesOf(other), before);
      assert.equal((await other.census(shard)).folded, true);
      assert.equal(await queue.claim(shard, bob), undefined);
      assert.equal(await queue.publish(shard, batchesOf(["b1", "b2"])), false);
      assert.deepEqual(await place.strays(), []);
    });
  });

  test("keeps the generations of a unit apart", async () => {
    await withShard(backend, ["b1"], async (queue) => {
      const next = "model--main.g2" as ShardId;
      await queue.publish(next, batchesOf(["b1"]));
      await (await mustClaim(queue, alice)).finish();
      assert.equal(await queue.claim(shard, alice), undefined, "a claim never leaves its shard");
      assert.deepEqual(await statesOf(queue, next), ["b1 ready 1"]);
    });
  });

  test("gives each of many concurrent claims another batch, also while the shard is being opened", async () => {
    const ids = Array.from({ length: 250 }, (_, index) => `b${index}`);
    await withShard(backend, ids, async (_, place) => {
      const queues = await Promise.all(Array.from({ length: 6 }, () => place.open()));
      const claims = Array.from({ length: 270 }, (_, index) =>
        queues[index % 6]?.claim(shard, `owner-${index % 6}` as OwnerId),
      );
      const leases = (await Promise.all(claims)).filter((lease) => lease !== undefined);
      assert.equal(new Set(leases.map(({ batch }) => batch.id)).size, 250);
      assert.equal(leases.length, 250);
      for (const queue of queues) await queue[Symbol.asyncDispose]();
      assert.deepEqual(await place.strays(), []);
    });
  });

  test("takes the longest names: 120 characters of unit, 40 of batch, 60 of owner", async () => {
    await using place = await backend.place();
    await using queue = await place.open();
    const wide = `${"u".repeat(114)}--main.g1000` as ShardId;
    const owner = `local-${"x".repeat(54)}` as OwnerId;
    const id = "0".repeat(40) as BatchId;
    await queue.publish(wide, batchesOf([id]));
    const lease = await queue.claim(wide, owner);
    assert.equal(await lease?.finish(), true);
    assert.equal(await queue.fold(wide), true);
  });

  test("answers any sequence of calls as the model of it does", async () => {
    await checkAgainstModel(backend, isLong ? 500 : 40);
  });
}

/** Processes and batches. */
const crowds = isLong
  ? ([
      [64, 20_000],
      [64, 100_000],
    ] as const)
  : ([[16, 2_000]] as const);

function manyProcesses(backend: QueueBackend): void {
  for (const [processes, total] of crowds) {
    test(`${processes} processes claim ${total} batches: none twice, none lost`, async (t) => {
      await claimAll(t, backend, processes, total);
    });
  }

  test(`survives SIGKILL at ${isLong ? "every" : "every fourth"} step of a shard's life, and of the next generation's`, async (t) => {
    const stride = isLong ? 1 : 4;
    let [killed, killAt] = [0, 1];
    for (let survived = false; !survived; ) {
      const next = [killAt, killAt + stride, killAt + 2 * stride];
      const alive = await Promise.all(next.map((step) => killAndRecover(backend, step)));
      killed += alive.filter((one) => !one).length;
      killAt += next.length * stride;
      survived = alive.every((one) => one);
    }
    t.diagnostic(`killed ${killed} times, at last after step ${killAt - stride}`);
    assert.ok(killed * stride > 30, "the killer was not at work");
  });
}

/** Lets processes drain many shards at once, and sees that each batch was claimed by exactly one of them. */
async function claimAll(
  t: TestContext,
  backend: QueueBackend,
  processes: number,
  total: number,
): Promise<void> {
  await using place = await backend.place();
  await using queue = await place.open();
  const perShard = 250;
  const ids = Array.from({ length: perShard }, (_, index) => `b${index}`);
  const shards = Array.from({ length: total / perShard }, (_, n) => `unit-${n}--main.g1`);
  for (const name of shards) await queue.publish(name as ShardId, batchesOf(ids));
  const startedAt = performance.now();
  const ended = await Promise.all(
    Array.from({ length: processes }, (_, index) => {
      // Several start in one shard, and every one meets others later.
      const home = Math.floor((index * shards.length) / processes);
      const route = [...shards.slice(home), ...shards.slice(0, home)];
      return runChild(backend, place, "drain", { owner: `worker-${index}`, shards: route });
    }),
  );
  const seconds = (performance.now() - startedAt) / 1_000;
  const answers = ended.map(({ stdout, stderr }) => {
    assert.notEqual(stdout, "", stderr);
    return JSON.parse(stdout) as Claimed;
  });
  const claims = answers.flatMap((answer) => answer.claims);
  const expected = shards.flatMap((name) => ids.map((id) => `${name} ${id} 1`));
  assert.equal(claims.length, expected.length);
  assert.deepEqual(new Set(claims), new Set(expected));
  t.diagnostic(
    `${seconds.toFixed(1)} s with the start of all processes; ${renderCounters(answers)}`,
  );
}

/** Of all processes together, as far as the backend counts. */
function renderCounters(answers: readonly Claimed[]): string {
  const sums: Record<string, number> = {};
  for (const { counters = {} } of answers) {
    for (const [name, n] of Object.entries(counters)) sums[name] = (sums[name] ?? 0) + n;
  }
  return JSON.stringify(sums);
}

/** @returns true when the child had fewer steps and lived to its end. */
async function killAndRecover(backend: QueueBackend, killAt: number): Promise<boolean> {
  await using place = await backend.place();
  const ended = await runChild(backend, place, "live", alice, { EH_KILL_AT: String(killAt) });
  if (ended.signal !== "SIGKILL") assert.equal(ended.code, 0, ended.stderr);
  await recoverLife(place, alice, `killed at step ${killAt}`);
  return ended.signal === undefined;
}

/** Takes over where `live` was interrupted, and sees that nothing was lost, doubled or left behind. */
export async function recoverLife(place: QueuePlace, dead: OwnerId, what: string): Promise<void> {
  await using queue = await place.open();
  const done: string[] = [];
  for (const name of await queue.shards()) {
    // A census throws when a batch is in no state, and a batch is in it once.
    for (const [id, { kind }] of (await queue.census(name)).batches) {
      if (kind === "done") done.push(`${name} ${id}`);
    }
    await queue.reclaim(name, dead);
  }
  for (const name of lifeShards) await queue.publish(name, batchesOf(lifeBatches));
  const { claims } = await drain(queue, { owner: bob, shards: lifeShards });
  const claimed = claims.map((claim) => claim.split(" ").slice(0, 2).join(" "));
  assert.deepEqual(
    [...claimed, ...done].sort(),
    lifeShards.flatMap((name) => lifeBatches.map((id) => `${name} ${id}`)),
    `${what}: each batch is claimed once, unless it was done`,
  );
  for (const name of lifeShards) {
    await queue.fold(name);
    const census = await queue.census(name);
    assert.equal(census.folded, true, `${what}: ${name} is not folded`);
    assert.equal(census.batches.size, lifeBatches.length);
  }
  assert.deepEqual(await place.strays(), [], what);
}
