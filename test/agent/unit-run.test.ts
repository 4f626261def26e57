import assert from "node:assert/strict";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, test } from "node:test";
import type { BatchRequest } from "../../src/agent/batch-run.ts";
import { workUnit } from "../../src/agent/unit.ts";
import { runUnit, type UnitRunDeps, type UnitStop } from "../../src/agent/unit-run.ts";
import type { Counts } from "../../src/balancer/control.ts";
import { systemClock } from "../../src/base/clock.ts";
import { checkEvent } from "../../src/events/encode.ts";
import type { EventSubject, EventType } from "../../src/events/event.ts";
import { openFsQueue } from "../../src/queue/fs-queue.ts";
import { readRecords } from "../../src/queue/numbered-records.ts";
import { readStoppedUnits, voidUnitFailures } from "../../src/queue/stopped-units.ts";
import { type LeafStrikes, readStrikes, StrikeRecord, strikeKey } from "../../src/queue/strikes.ts";
import { indexLeafFiles } from "../../src/run/coverage.ts";
import { type LeafId, type OwnerId, shardId } from "../../src/run/ids.ts";
import type { ManifestEntry } from "../../src/run/manifest.ts";
import type { PlannedUnit, Profile } from "../../src/run/plan.ts";
import { type Act, fail, ScriptedBatches } from "../support/scripted-batches.ts";
import { fingerprintAt, leafAt, makeSyntheticRun, unitAt } from "../support/synthetic-run.ts";
import { temporaryDirectory } from "../support/temporary.ts";
import { until } from "../support/until.ts";

interface Told extends EventSubject {
  readonly type: EventType;
  readonly body: Readonly<Record<string, unknown>>;
}

interface Scene extends AsyncDisposable {
  readonly deps: UnitRunDeps;
  readonly harness: ScriptedBatches;
  readonly told: Told[];
  drain(): void;
  /** Implies draining. */
  abort(): void;
  /** What the servers do, as the unit is told. */
  serversFail(stop: UnitStop): void;
  disturbed: boolean;
  /** Of leaf `n`: what counts against it. */
  strikes(n: number): Promise<LeafStrikes | undefined>;
  /** Of all leaves: `strike {class}`, `excused {reason}`, `void`. */
  records(): Promise<string[]>;
  /** `{state} a{attempt}` of each batch. */
  batches(): Promise<string[]>;
  /** Of a type, what an event says in these fields. */
  heard(type: EventType, ...fields: string[]): unknown[];
}

/** A unit of a synthetic run, worked on with a scripted harness and the real queue. */
async function scene(
  scripts: Readonly<Record<string, Act | readonly Act[]>>,
  options: { leaves: number; leavesPerBatch?: number; slots?: number },
  changes: Partial<UnitRunDeps> = {},
): Promise<Scene> {
  const { leaves, leavesPerBatch = 1, slots = 1 } = options;
  const directory = await temporaryDirectory();
  const run = await makeSyntheticRun({
    directory: directory.path,
    units: 1,
    leaves,
    leavesPerBatch,
  });
  const { layout, plan, manifest } = run;
  const planned = plan.units[0] as PlannedUnit;
  const { fingerprints } = plan.profiles["default"] as Profile;
  const entry = manifest.get(planned.id) as ManifestEntry;
  const unit = workUnit(layout, plan, planned, entry, indexLeafFiles(fingerprints));
  const queue = await openFsQueue({ layout });
  const shard = shardId(planned.id, 0);
  const harness = new ScriptedBatches(scripts);
  const told: Told[] = [];
  const draining = new AbortController();
  const aborting = new AbortController();
  let onFailed: ((stop: UnitStop) => void) | undefined;
  let runs = 0;
  const made: Scene = {
    harness,
    told,
    drain: () => draining.abort(),
    abort: () => {
      draining.abort();
      aborting.abort();
    },
    disturbed: false,
    serversFail: (stop) => onFailed?.(stop),
    deps: {
      unit,
      owner: "local-p1-00000001" as OwnerId,
      job: "local",
      queue,
      harness,
      slots,
      lanes: 2 * slots,
      clock: systemClock,
      events: {
        publish: async (type, subject, body) => {
          // As the journal does: nothing gets through that no reader understands.
          const checked = checkEvent(type, subject, body);
          told.push({ type, ...checked.subject, body: checked.body });
        },
      },
      request: () => ({ id: `r${++runs}`, output_dir: unit.directory }) as BatchRequest,
      settle: async (_account, leaf) => ({
        // What is settled leaf by leaf is not there any more in the end.
        answered: leaf === undefined ? 0 : 2,
        refused: 0,
        replayed: 0,
        abandoned: 0,
        retries: 0,
        prompt_tokens: 20,
        completion_tokens: 4,
        queue_s: 0,
        service_s: 0.5,
      }),
      disturbedSince: async () => made.disturbed,
      reap: async () => false,
      isGone: () => false,
      begin: (tell) => {
        onFailed = tell;
      },
      end: async () => {},
      draining: draining.signal,
      aborting: aborting.signal,
      ...changes,
    },
    strikes: async (n) =>
      (await readStrikes(layout, planned.id)).get(strikeKey(leafAt(n), fingerprintAt(n))),
    records: async () => {
      const records = await readRecords(layout.strikes(planned.id));
      return records.map(({ text }) => {
        const record = StrikeRecord.parse(JSON.parse(text));
        if (record.kind === "strike") return `strike ${record.class}`;
        return record.kind === "excused" ? `excused ${record.reason}` : "void";
      });
    },
    batches: async () => {
      const census = await queue.census(shard);
      return [...census.batches.values()].map(({ kind, attempt }) => `${kind} a${attempt}`);
    },
    heard: (type, ...fields) =>
      told
        .filter((event) => event.type === type)
        .map((event) => {
          const all: Record<string, unknown> = { ...event, ...event.body };
          const values = fields.map((field) => all[field]);
          return values.length === 1 ? values[0] : values;
        }),
    [Symbol.asyncDispose]: async () => {
      await queue[Symbol.asyncDispose]();
      await directory[Symbol.asyncDispose]();
    },
  };
  return made;
}

const [first, second, third] = [leafAt(0), leafAt(1), leafAt(2)] as const;

describe("a unit", () => {
  test("ends when every leaf is settled, and is folded", async () => {
    await using at = await scene({}, { leaves: 5, leavesPerBatch: 2, slots: 2 });
    assert.deepEqual(await runUnit(at.deps), { kind: "ended", open: 0 });
    assert.deepEqual(await at.batches(), ["done a1", "done a1", "done a1"]);
    assert.deepEqual(at.heard("unit.ended", "done", "open", "dead"), [[5, 0, 0]]);
    assert.deepEqual(
      at.heard("batch.ended", "outcome", "requests", "cpu_s").sort(),
      [2, 4, 4].map((requests) => ["settled", requests, 1.5]),
    );
    const served = at.heard("leaf.done", "served") as Counts[];
    assert.deepEqual(
      served.map(({ answered }) => answered),
      [2, 2, 2, 2, 2],
    );
    const { shards, queue } = { shards: at.deps.unit.shards, queue: at.deps.queue };
    assert.equal((await queue.census(shards[0] as (typeof shards)[number])).folded, true);
  });

  test("ends with what nobody can evaluate: dead after three strikes, and never again", async () => {
    await using at = await scene(
      { [second]: fail("metric") },
      { leaves: 3, leavesPerBatch: 3, slots: 2 },
    );
    assert.deepEqual(await runUnit(at.deps), { kind: "ended", open: 0 });
    assert.equal(at.harness.begun(second), 3);
    assert.deepEqual(at.harness.runs, [[first, second, third], [second], [second]]);
    const strikes = await at.strikes(1);
    assert.deepEqual(
      [strikes?.strikes, strikes?.isDead, strikes?.last?.message],
      [3, true, "scripted metric"],
    );
    assert.deepEqual(at.heard("leaf.failed", "leaf", "class", "strike", "attempt"), [
      [second, "metric", 1, 1],
      [second, "metric", 2, 2],
      [second, "metric", 3, 3],
    ]);
    assert.deepEqual(at.heard("leaf.dead", "leaf", "strikes"), [[second, 3]]);
    assert.deepEqual(at.heard("batch.ended", "outcome", "reason"), [
      ["released", "failed-leaves"],
      ["released", "failed-leaves"],
      ["settled", undefined],
    ]);
    assert.deepEqual(at.heard("unit.ended", "done", "open", "dead"), [[2, 0, 1]]);
  });

  test("tries what failed after what was never tried", async () => {
    await using at = await scene({ [first]: [fail("load"), "done"] }, { leaves: 3 });
    await runUnit(at.deps);
    assert.deepEqual(at.harness.runs.flat(), [first, second, third, first]);
  });

  test("does not try again what failed for good, nor what can't be trusted", async () => {
    await using at = await scene(
      { [first]: fail("task-changed", true), [second]: "invalid" },
      { leaves: 3 },
    );
    assert.deepEqual(await runUnit(at.deps), { kind: "ended", open: 0 });
    assert.deepEqual([at.harness.begun(first), at.harness.begun(second)], [1, 1]);
    assert.deepEqual(at.heard("leaf.dead", "leaf"), [first]);
    assert.deepEqual(at.heard("leaf.invalid", "leaf", "reason"), [[second, "scripted"]]);
  });

  test("drops what somebody else has done, and asks no harness for a batch without open leaves", async () => {
    await using at = await scene({}, { leaves: 3, leavesPerBatch: 2 });
    const { directory, leafFiles } = at.deps.unit;
    await mkdir(directory, { recursive: true });
    for (const [name, { leaf, valid }] of leafFiles) {
      if (valid && leaf !== second) await writeFile(join(directory, name), "{}");
    }
    assert.deepEqual(await runUnit(at.deps), { kind: "ended", open: 0 });
    assert.deepEqual(at.harness.runs, [[second]]);
  });

  test("takes over what an owner that died has held", async () => {
    const dead = "local-p2-0000dead" as OwnerId;
    await using at = await scene({}, { leaves: 2 });
    const { queue, unit } = at.deps;
    const shard = unit.shards[0] as (typeof unit.shards)[number];
    await queue.claim(shard, dead);
    const reap = async () => (await queue.reclaim(shard, dead)).length > 0;
    assert.deepEqual(await runUnit({ ...at.deps, reap }), { kind: "ended", open: 0 });
    assert.deepEqual(await at.batches(), ["done a2", "done a1"]);
  });

  test("leaves alone what another owner holds", async () => {
    await using at = await scene({}, { leaves: 2 });
    const { queue, unit } = at.deps;
    const shard = unit.shards[0] as (typeof unit.shards)[number];
    await queue.claim(shard, "local-p2-0000beef" as OwnerId);
    assert.deepEqual(await runUnit(at.deps), { kind: "ended", open: 1 });
    assert.deepEqual(await at.batches(), ["owned a1", "done a1"]);
  });

  test("sees that a batch was taken from it meanwhile", async () => {
    await using at = await scene(
      {
        [first]: {
          kind: "then",
          first: async () => {
            const { queue, unit, owner } = at.deps;
            await queue.reclaim(unit.shards[0] as (typeof unit.shards)[number], owner);
          },
          act: "done",
        },
      },
      { leaves: 1 },
    );
    await runUnit(at.deps);
    assert.deepEqual(at.heard("batch.ended", "outcome"), ["lost", "settled"]);
    assert.deepEqual(at.harness.runs, [[first]]);
  });
});

describe("a child that dies", () => {
  for (const [act, failureClass, message] of [
    [{ kind: "crash", signal: "SIGSEGV" }, "crash", /ended by SIGSEGV/],
    [{ kind: "crash" }, "crash", /ended by exit code 1/],
    [{ kind: "crash", signal: "SIGKILL" }, "memory", /SIGKILL.*300 MiB/],
  ] as const) {
    test(`by ${"signal" in act ? act.signal : "exit code 1"} is class "${failureClass}" for its leaf alone; the batch goes on in another`, async () => {
      await using at = await scene({ [second]: [act, "done"] }, { leaves: 3, leavesPerBatch: 3 });
      assert.deepEqual(await runUnit(at.deps), { kind: "ended", open: 0 });
      assert.deepEqual(at.harness.runs, [[first, second, third], [third], [second]]);
      assert.deepEqual(await at.records(), [`strike ${failureClass}`]);
      const strikes = await at.strikes(1);
      assert.match(strikes?.last?.message ?? "", message);
    });
  }

  test("without a word is a crash of the first leaf; the others are tried without it", async () => {
    await using at = await scene({ [first]: { kind: "mute" } }, { leaves: 2, leavesPerBatch: 2 });
    assert.deepEqual(await runUnit(at.deps), { kind: "ended", open: 0 });
    assert.deepEqual(at.harness.runs.slice(0, 2), [[first, second], [second]]);
    assert.equal((await at.strikes(0))?.isDead, true);
    assert.equal(await at.strikes(1), undefined);
  });

  test("between two leaves is no failure of the next one", async () => {
    await using at = await scene(
      { [second]: [{ kind: "mute" }, "done"] },
      { leaves: 2, leavesPerBatch: 2 },
    );
    assert.deepEqual(await runUnit(at.deps), { kind: "ended", open: 0 });
    assert.deepEqual(at.harness.runs, [[first, second], [second]]);
    assert.deepEqual(await at.records(), []);
  });

  test("because somebody stopped it and nobody continued it is no failure of its leaf", async () => {
    await using at = await scene(
      { [first]: [{ kind: "crash", signal: "SIGSTOP" }, "done"] },
      { leaves: 1 },
    );
    assert.deepEqual(await runUnit(at.deps), { kind: "ended", open: 0 });
    assert.deepEqual(await at.batches(), ["done a1"]);
    assert.deepEqual(await at.records(), ["excused stopped by a signal, and not continued"]);
  });

  test("because a model can't be built is a failure of each leaf that needs it", async () => {
    await using at = await scene(
      { [first]: { kind: "error", class: "model" }, [second]: { kind: "error", class: "model" } },
      { leaves: 2, leavesPerBatch: 2 },
    );
    await runUnit(at.deps);
    assert.deepEqual(at.harness.runs.slice(0, 2), [[first, second], [second]]);
    assert.deepEqual(new Set(await at.records()), new Set(["strike model"]));
  });
});

describe("a harness that dies", () => {
  test("costs the leaf at hand no strike, and the lease goes on", async () => {
    await using at = await scene(
      { [second]: [{ kind: "lost" }, "done"] },
      { leaves: 3, leavesPerBatch: 3 },
    );
    assert.deepEqual(await runUnit(at.deps), { kind: "ended", open: 0 });
    assert.deepEqual(await at.batches(), ["done a1"]);
    assert.deepEqual(await at.records(), ["excused the harness died"]);
    assert.deepEqual(at.heard("leaf.excused", "reason"), ["the harness died"]);
    assert.equal((await at.strikes(1))?.strikes, 0);
  });

  test("five times under one lease gives the batch back; five such attempts are one strike", async () => {
    await using at = await scene({ [first]: { kind: "lost" } }, { leaves: 1 });
    assert.deepEqual(await runUnit(at.deps), { kind: "ended", open: 0 });
    assert.equal(at.harness.begun(first), 75);
    const strikes = await at.strikes(0);
    assert.deepEqual([strikes?.strikes, strikes?.isDead, strikes?.last], [3, true, undefined]);
    assert.deepEqual(await at.batches(), ["done a16"]);
  });
});

test("a place that takes no result ends the agent, which says so, and strikes no leaf", async () => {
  await using at = await scene({ [first]: fail("write") }, { leaves: 2, slots: 2 });
  await assert.rejects(runUnit(at.deps), {
    code: "results.write",
    exitCode: 3,
    message: `Cannot evaluate "${first}": a file can't be written: scripted write`,
  });
  assert.deepEqual(await at.records(), []);
  assert.deepEqual(at.heard("leaf.failed", "leaf", "class", "strike"), [[first, "write", null]]);
  assert.equal((await at.batches())[0], "ready a2");
});

for (const slots of [1, 2]) {
  for (const what of ["a result", "an event"]) {
    test(`so does one that takes not ${what} of the last leaf, while others look for work, with ${slots} slots`, async () => {
      const rest = Promise.withResolvers<void>();
      const act = what === "a result" ? fail("write") : "done";
      await using at = await scene(
        { [first]: { kind: "nearly", rest: rest.promise, act } },
        { leaves: 1, slots },
      );
      const { publish } = at.deps.events;
      const events: UnitRunDeps["events"] = {
        publish: async (type, subject, body) => {
          if (type === "leaf.done") throw new Error("no space left");
          await publish(type, subject, body);
        },
      };
      const reap = async () => {
        rest.resolve();
        return false;
      };
      const working = runUnit({ ...at.deps, events, reap });
      await assert.rejects(working, what === "a result" ? { exitCode: 3 } : /no space left/);
      assert.deepEqual(await at.batches(), ["ready a2"]);
    });
  }
}

describe("requests that fail", () => {
  test("are the leaf's fault while the servers are well", async () => {
    await using at = await scene({ [first]: [fail("requests"), "done"] }, { leaves: 1 });
    await runUnit(at.deps);
    assert.deepEqual(await at.records(), ["strike requests"]);
  });

  test("are excused when the servers were not well meanwhile", async () => {
    await using at = await scene({ [first]: [fail("requests"), "done"] }, { leaves: 1 });
    at.disturbed = true;
    assert.deepEqual(await runUnit(at.deps), { kind: "ended", open: 0 });
    assert.deepEqual(await at.records(), ["excused server-lost"]);
    assert.deepEqual(at.heard("leaf.failed", "class", "strike"), [["requests", null]]);
  });

  test("are no excuse for a failure of another kind", async () => {
    await using at = await scene({ [first]: [fail("metric"), "done"] }, { leaves: 1 });
    at.disturbed = true;
    await runUnit(at.deps);
    assert.deepEqual(await at.records(), ["strike metric"]);
  });
});

describe("draining", () => {
  test("lets the leaf at hand be finished, then gives the batch back", async () => {
    await using at = await scene(
      { [first]: { kind: "then", first: () => at.drain(), act: "done" } },
      { leaves: 4, leavesPerBatch: 2 },
    );
    assert.deepEqual(await runUnit(at.deps), { kind: "interrupted" });
    assert.deepEqual(await at.batches(), ["ready a2", "ready a1"]);
    assert.deepEqual(at.heard("batch.ended", "outcome", "reason"), [["released", "draining"]]);
    assert.deepEqual(at.heard("leaf.done", "leaf"), [first]);
    assert.deepEqual(await at.records(), []);
  });

  test("does not hold it against a leaf that it was just begun", async () => {
    await using at = await scene(
      {
        [first]: { kind: "then", first: () => at.drain(), act: "done" },
        [second]: { kind: "hang" },
      },
      { leaves: 2, leavesPerBatch: 2 },
    );
    await runUnit(at.deps);
    assert.deepEqual(await at.records(), []);
    // But whoever finds that it was begun twice is told why.
    assert.deepEqual(at.heard("leaf.started", "leaf"), [first, second]);
    assert.deepEqual(at.heard("leaf.excused", "leaf", "reason"), [[second, "draining"]]);
  });

  test("does not wait for a harness that is not up yet", async () => {
    await using at = await scene(
      { [first]: { kind: "late", heard: () => setImmediate(at.drain) } },
      { leaves: 2 },
    );
    assert.deepEqual(await runUnit(at.deps), { kind: "interrupted" });
    assert.deepEqual(await at.batches(), ["ready a2", "ready a1"]);
    assert.deepEqual(await at.records(), []);
  });

  test("settles a batch whose last leaf it let finish", async () => {
    await using at = await scene(
      { [first]: { kind: "then", first: () => at.drain(), act: "done" } },
      { leaves: 2 },
    );
    assert.deepEqual(await runUnit(at.deps), { kind: "interrupted" });
    assert.deepEqual(await at.batches(), ["done a1", "ready a1"]);
  });

  test("takes nothing when it came before the start", async () => {
    await using at = await scene({}, { leaves: 2, slots: 2 });
    at.drain();
    assert.deepEqual(await runUnit(at.deps), { kind: "interrupted" });
    assert.deepEqual(at.harness.runs, []);
  });
});

describe("while the last answers of a batch are awaited", () => {
  /** Batches after as many looks at the queue as whoever takes another one would need, and more. */
  async function batchesInTime(at: Scene): Promise<string[]> {
    for (let look = 0; look < 20; look++) await at.batches();
    return await at.batches();
  }

  /** Works on a unit whose first leaf is nearly done: says what became of its batches meanwhile, and goes on to the end. */
  async function batchesWhileNearlyDone(
    options: Parameters<typeof scene>[1],
    changes: Partial<UnitRunDeps> = {},
  ): Promise<string[]> {
    const rest = Promise.withResolvers<void>();
    const scripts = { [first]: { kind: "nearly", rest: rest.promise } } as const;
    await using at = await scene(scripts, options, changes);
    const working = runUnit(at.deps);
    await until(() => at.heard("batch.progress").length === 1, { what: "it is nearly done" });
    const batches = await batchesInTime(at);
    rest.resolve();
    assert.deepEqual(await working, { kind: "ended", open: 0 });
    return batches;
  }

  test("the next one is prepared, and asks nothing before it has the slot", async () => {
    const rest = Promise.withResolvers<void>();
    await using at = await scene(
      { [first]: { kind: "nearly", rest: rest.promise } },
      { leaves: 3 },
    );
    const working = runUnit(at.deps);
    await until(() => at.harness.begun(second) === 1, { what: "the second leaf is prepared" });
    assert.deepEqual(at.harness.asked, [first]);
    assert.deepEqual(at.heard("leaf.started", "leaf"), [first]);
    // One more would be one too many.
    assert.deepEqual(await batchesInTime(at), ["owned a1", "owned a1", "ready a1"]);
    rest.resolve();
    assert.deepEqual(await working, { kind: "ended", open: 0 });
    assert.deepEqual(at.harness.asked, [first, second, leafAt(2)]);
    const order = at.told.filter(({ type }) => /^leaf[.](started|done)$/.test(type));
    assert.deepEqual(
      order.map(({ type, leaf }) => `${type} ${leaf}`),
      [0, 1, 2].flatMap((n) => [`leaf.started ${leafAt(n)}`, `leaf.done ${leafAt(n)}`]),
    );
  });

  for (const [what, act] of [
    ["are scored", "done"],
    ["could not be scored, since the harness died", { kind: "lost" }],
  ] as const) {
    test(`and while they ${what}, the next one asks in their slot, one at a time`, async () => {
      const rest = Promise.withResolvers<void>();
      const last = Promise.withResolvers<void>();
      await using at = await scene(
        {
          [first]: [{ kind: "scores", rest: rest.promise, act }, "done"],
          [second]: { kind: "nearly", rest: last.promise },
        },
        { leaves: 3 },
      );
      const working = runUnit(at.deps);
      await until(() => at.harness.asked.includes(second), { what: "the second leaf asks" });
      assert.deepEqual(at.heard("leaf.done"), []);
      assert.deepEqual(await batchesInTime(at), ["owned a1", "owned a1", "ready a1"]);
      rest.resolve();
      if (act === "done") await until(() => at.heard("leaf.done").length === 1, { what: "scored" });
      else await until(() => at.harness.begun(first) === 2, { what: "it is prepared again" });
      assert.deepEqual(at.harness.asked, [first, second]);
      last.resolve();
      assert.deepEqual(await working, { kind: "ended", open: 0 });
      assert.equal(at.heard("leaf.done").length, 3);
    });
  }

  test("answers are scored to the end when it is time to stop", async () => {
    const rest = Promise.withResolvers<void>();
    await using at = await scene(
      { [first]: { kind: "scores", rest: rest.promise } },
      { leaves: 1 },
    );
    const working = runUnit(at.deps);
    await until(() => at.heard("batch.progress").length === 1, { what: "all is answered" });
    at.drain();
    rest.resolve();
    assert.deepEqual(await working, { kind: "interrupted" });
    assert.deepEqual(at.heard("leaf.done", "leaf"), [first]);
  });

  test("not while other leaves of the batch are open", async () => {
    const batches = await batchesWhileNearlyDone({ leaves: 3, leavesPerBatch: 2 });
    assert.deepEqual(batches, ["owned a1", "ready a1"]);
  });

  test("not while kept answers come, which say nothing of those that follow", async () => {
    const journals = {
      open: async () => new Set([first]),
      close: async () => {},
      drop: async () => {},
      sweep: async () => {},
    };
    const batches = await batchesWhileNearlyDone({ leaves: 2 }, { journals });
    assert.deepEqual(batches, ["owned a1", "ready a1"]);
  });

  test("not where an evaluation was killed for its memory", async () => {
    const rest = Promise.withResolvers<void>();
    const scripts = {
      [first]: [{ kind: "crash", signal: "SIGKILL" }, "done"],
      [second]: { kind: "nearly", rest: rest.promise },
    } as const;
    await using at = await scene(scripts, { leaves: 3 });
    const working = runUnit(at.deps);
    await until(() => at.heard("batch.progress").length === 1, { what: "it is nearly done" });
    const states = (await batchesInTime(at)).map((batch) => batch.split(" ")[0]);
    assert.equal(states.filter((state) => state === "owned").length, 1, states.join());
    rest.resolve();
    assert.deepEqual(await working, { kind: "ended", open: 0 });
  });

  test("nothing is taken where only one batch at a time may be there", async () => {
    const batches = await batchesWhileNearlyDone({ leaves: 2 }, { lanes: 1 });
    assert.deepEqual(batches, ["owned a1", "ready a1"]);
  });

  test("a prepared one goes back at once when it is time to stop", async () => {
    const rest = Promise.withResolvers<void>();
    await using at = await scene(
      { [first]: { kind: "nearly", rest: rest.promise } },
      { leaves: 2 },
    );
    const working = runUnit(at.deps);
    await until(() => at.harness.begun(second) === 1, { what: "the second leaf is prepared" });
    at.drain();
    await until(async () => (await at.batches())[1] === "ready a2", { what: "it is back" });
    rest.resolve();
    assert.deepEqual(await working, { kind: "interrupted" });
    assert.deepEqual(await at.batches(), ["done a1", "ready a2"]);
    assert.deepEqual(at.harness.asked, [first]);
    assert.deepEqual(at.heard("leaf.started", "leaf"), [first]);
    assert.deepEqual(await at.records(), []);
  });

  test("one that comes back while others look for work is taken at once", async () => {
    const [failing, hanging, looking] = [0, 0, 0].map(() => Promise.withResolvers<void>());
    assert(failing && hanging && looking);
    await using at = await scene(
      {
        [first]: [{ kind: "nearly", rest: failing.promise, act: fail("metric") }, "done"],
        [second]: { kind: "nearly", rest: hanging.promise },
      },
      { leaves: 2, slots: 2 },
    );
    let looks = 0;
    const reap = async () => {
      if (++looks === 2) failing.resolve();
      await looking.promise;
      return false;
    };
    const working = runUnit({ ...at.deps, reap });
    // Both idle lanes have found nothing by now.
    await until(async () => (await at.batches())[0] === "ready a2", { what: "the first is back" });
    looking.resolve();
    await until(async () => (await at.batches())[0] === "done a2", { what: "the first is done" });
    assert.equal((await at.batches())[1], "owned a1");
    hanging.resolve();
    assert.deepEqual(await working, { kind: "ended", open: 0 });
  });

  test("a prepared one whose harness dies was not evaluated, and is prepared anew", async () => {
    const rest = Promise.withResolvers<void>();
    await using at = await scene(
      { [first]: { kind: "nearly", rest: rest.promise }, [second]: [{ kind: "late" }, "done"] },
      { leaves: 2 },
      {},
    );
    const { harness } = at;
    // The first run of the second leaf ends with its harness.
    const dying: UnitRunDeps["harness"] = {
      run: async (request, options) => {
        if (request.leaves[0]?.id !== second || harness.begun(second) > 0)
          return await harness.run(request, options);
        const dead = new AbortController();
        options.onMessage({ type: "leaf_started", id: request.id, leaf: second });
        setImmediate(() => dead.abort());
        return await harness.run(request, { ...options, signal: dead.signal });
      },
    };
    const working = runUnit({ ...at.deps, harness: dying });
    await until(() => harness.begun(second) === 2, { what: "the second leaf is prepared again" });
    rest.resolve();
    assert.deepEqual(await working, { kind: "ended", open: 0 });
    assert.deepEqual(at.heard("leaf.started", "leaf"), [first, second]);
    assert.deepEqual(await at.records(), []);
  });

  test("a prepared one that can't be loaded has failed, once the slot is its", async () => {
    const rest = Promise.withResolvers<void>();
    await using at = await scene(
      { [first]: { kind: "nearly", rest: rest.promise }, [second]: fail("load", true) },
      { leaves: 2 },
    );
    const working = runUnit(at.deps);
    await until(() => at.harness.begun(second) === 1, { what: "the second leaf is loaded" });
    rest.resolve();
    assert.deepEqual(await working, { kind: "ended", open: 0 });
    const order = at.told.map(({ type }) => type).filter((type) => /^leaf/.test(type));
    assert.deepEqual(order.slice(0, 4), [
      "leaf.started",
      "leaf.done",
      "leaf.started",
      "leaf.failed",
    ]);
    assert.deepEqual(await at.records(), ["strike load"]);
  });
});

describe("aborting", () => {
  test("ends what runs at once and gives every batch back", async () => {
    let begun = 0;
    const heard = () => {
      if (++begun === 2) at.abort();
    };
    await using at = await scene(
      { [first]: { kind: "hang", heard }, [second]: { kind: "hang", heard } },
      { leaves: 3, slots: 2 },
    );
    assert.deepEqual(await runUnit(at.deps), { kind: "interrupted" });
    assert.deepEqual(await at.batches(), ["ready a2", "ready a2", "ready a1"]);
    assert.deepEqual(at.heard("batch.ended", "reason"), ["aborted", "aborted"]);
    assert.deepEqual(await at.records(), ["excused aborted", "excused aborted"]);
  });

  test("makes a failure that comes with it no failure", async () => {
    await using at = await scene(
      { [first]: { kind: "then", first: () => at.abort(), act: fail("requests") } },
      { leaves: 1 },
    );
    await runUnit(at.deps);
    assert.deepEqual(await at.records(), ["excused aborted"]);
    assert.equal((await at.strikes(0))?.strikes, 0);
  });

  test("is no reason to stop a unit, whatever its servers say then", async () => {
    await using at = await scene(
      {
        [first]: {
          kind: "hang",
          heard: () => {
            at.abort();
            at.serversFail({ class: "server-start", reason: "killed" });
          },
        },
      },
      { leaves: 1 },
    );
    assert.deepEqual(await runUnit(at.deps), { kind: "interrupted" });
    assert.equal((await readStoppedUnits(at.deps.unit.layout)).size, 0);
  });
});

describe("the circuit breaker", () => {
  const everyLeaf = (leaves: number, act: Act): Record<LeafId, Act> =>
    Object.fromEntries(Array.from({ length: leaves }, (_, n) => [leafAt(n), act]));

  test("stops a unit when leaf after leaf fails alike, and pardons the leaves", async () => {
    await using at = await scene(everyLeaf(12, fail("missing-module")), { leaves: 12 });
    const outcome = await runUnit(at.deps);
    assert.deepEqual(outcome, {
      kind: "stopped",
      stop: {
        class: "missing-module",
        reason: '5 different tasks failed in a row with "missing-module": scripted missing-module',
        leaves: Array.from({ length: 5 }, (_, n) => leafAt(n)),
      },
    });
    for (let n = 0; n < 12; n++) assert.equal((await at.strikes(n))?.strikes ?? 0, 0, leafAt(n));
    assert.deepEqual(at.harness.runs.length, 5);
    assert.deepEqual(at.heard("unit.failed", "class", "n"), [["missing-module", 1]]);
    const stopped = (await readStoppedUnits(at.deps.unit.layout)).get(unitAt(0));
    assert.deepEqual([stopped?.failures.length, stopped?.waitsForPerson], [1, false]);
  });

  test("leaves a unit to a person after the second stop, until that person speaks", async () => {
    await using at = await scene(everyLeaf(6, fail("requests")), { leaves: 6 });
    const { layout } = at.deps.unit;
    assert.equal((await runUnit(at.deps)).kind, "stopped");
    assert.equal((await runUnit(at.deps)).kind, "stopped");
    assert.equal((await readStoppedUnits(layout)).get(unitAt(0))?.waitsForPerson, true);
    await voidUnitFailures(layout, "run", new Date().toISOString());
    assert.equal((await readStoppedUnits(layout)).size, 0);
  });

  test("interrupts the leaves of other slots, and holds nothing against them", async () => {
    await using at = await scene(
      { ...everyLeaf(8, fail("requests")), [first]: { kind: "hang" } },
      { leaves: 8, slots: 2 },
    );
    assert.equal((await runUnit(at.deps)).kind, "stopped");
    assert.equal(await at.strikes(0), undefined);
    assert.ok((await at.batches()).every((batch) => batch.startsWith("ready")));
  });

  test("lets the bad leaves of a unit die of their strikes when others succeed", async () => {
    const bad = Array.from({ length: 6 }, (_, n) => leafAt(n + 1));
    await using at = await scene(
      Object.fromEntries(bad.map((leaf) => [leaf, fail("missing-module")])),
      { leaves: 9 },
    );
    assert.deepEqual(await runUnit(at.deps), { kind: "ended", open: 0 });
    assert.deepEqual(at.heard("unit.ended", "done", "dead"), [[3, 6]]);
  });

  test("remembers, in the next agent, that others have succeeded", async () => {
    const bad = Array.from({ length: 6 }, (_, n) => leafAt(n + 1));
    await using at = await scene(
      Object.fromEntries(bad.map((leaf) => [leaf, fail("missing-module")])),
      { leaves: 7 },
    );
    const { directory, leafFiles } = at.deps.unit;
    await mkdir(directory, { recursive: true });
    const [done] = [...leafFiles].find(([, { leaf, valid }]) => valid && leaf === first) ?? [""];
    await writeFile(join(directory, done), "{}");
    assert.deepEqual(await runUnit(at.deps), { kind: "ended", open: 0 });
    assert.deepEqual(at.heard("unit.ended", "done", "dead"), [[1, 6]]);
  });
});

describe("servers that fail", () => {
  /** They fail while the first leaf is at work. */
  async function sceneOf(stop: UnitStop): Promise<Scene> {
    const at = await scene(
      { [first]: { kind: "hang", heard: () => at.serversFail(stop) } },
      { leaves: 2 },
    );
    return at;
  }

  test("to start stop the unit and say nothing of the leaves that waited", async () => {
    await using at = await sceneOf({ class: "server-start", reason: "no GPU" });
    const stop = { class: "server-start", reason: "no GPU" };
    assert.deepEqual(await runUnit(at.deps), { kind: "stopped", stop });
    assert.deepEqual(await at.records(), []);
    assert.deepEqual(await at.batches(), ["ready a2", "ready a1"]);
    assert.deepEqual(at.heard("unit.failed", "class", "reason", "n"), [
      ["server-start", "no GPU", 1],
    ]);
  });

  test("again and again stop the unit; the leaf at hand is excused, for it may be the cause", async () => {
    await using at = await sceneOf({ class: "server-crash-loop", reason: "CUDA" });
    assert.equal((await runUnit(at.deps)).kind, "stopped");
    assert.deepEqual(await at.records(), ["excused server-lost"]);
    assert.deepEqual(at.heard("batch.ended", "reason"), ["server-lost"]);
  });
});

describe("a record that can't be written", () => {
  test("ends the unit's work with that error, and gives the batches back", async () => {
    await using at = await scene(
      { [second]: { kind: "hang" } },
      { leaves: 4, leavesPerBatch: 2, slots: 2 },
    );
    const { publish } = at.deps.events;
    const events: UnitRunDeps["events"] = {
      publish: async (type, subject, body) => {
        if (type === "leaf.done") throw new Error("no space left");
        await publish(type, subject, body);
      },
    };
    await assert.rejects(runUnit({ ...at.deps, events }), { message: "no space left" });
    assert.ok((await at.batches()).every((batch) => batch.startsWith("ready")));
  });
});

describe("the journal of a leaf", () => {
  /** What happens to journals, as `open r1: leaf`, in order; sweeping as the leaves that are left. */
  function recordJournals(): { journals: NonNullable<UnitRunDeps["journals"]>; log: string[] } {
    const log: string[] = [];
    const names = (leaves: readonly { id: string }[]) => leaves.map(({ id }) => id).join(" ");
    return {
      log,
      journals: {
        open: async (account, leaves) => {
          log.push(`open ${account}: ${names(leaves)}`);
          return new Set();
        },
        close: async (account) => void log.push(`close ${account}`),
        drop: async (account, index, { id }) => void log.push(`drop ${account}/${index}: ${id}`),
        sweep: async (leaves) => void log.push(`sweep: ${names(leaves)}`),
      },
    };
  }

  const dropsOf = (log: readonly string[]) => log.filter((line) => line.startsWith("drop"));

  test("is there before the leaf is asked for, dropped when it is settled, and what is left is swept", async () => {
    const { journals, log } = recordJournals();
    await using at = await scene(
      { [second]: "invalid" },
      { leaves: 2, leavesPerBatch: 2 },
      { journals },
    );
    await runUnit(at.deps);
    assert.deepEqual(log, [
      `open r1: ${first} ${second}`,
      `drop r1/0: ${first}`,
      `drop r1/1: ${second}`,
      "close r1",
      "sweep: ",
    ]);
  });

  for (const [what, act, kept] of [
    ["failed", fail("metric"), false],
    ["crashed", { kind: "crash" }, false],
    ["ended by a signal of its own", { kind: "crash", signal: "SIGSEGV" }, false],
    ["was killed alone", { kind: "crash", signal: "SIGKILL" }, true],
    ["lost its harness", { kind: "lost" }, true],
    ["was stopped by a signal", { kind: "crash", signal: "SIGSTOP" }, true],
  ] as const) {
    test(`is ${kept ? "kept" : "dropped"} when the leaf ${what}`, async () => {
      const { journals, log } = recordJournals();
      await using at = await scene({ [first]: [act, "done"] }, { leaves: 1 }, { journals });
      await runUnit(at.deps);
      const done = `drop r2/0: ${first}`;
      assert.deepEqual(dropsOf(log), kept ? [done] : [`drop r1/0: ${first}`, done]);
      // Written to the end before the next evaluation reads it.
      assert.ok(log.indexOf("close r1") < log.indexOf(`open r2: ${first}`));
    });
  }

  test("is kept when its servers failed, or all is ended", async () => {
    for (const end of ["disturbed", "aborted"] as const) {
      const { journals, log } = recordJournals();
      const aborting: Act = { kind: "then", first: () => at.abort(), act: { kind: "hang" } };
      const acts: Act[] = end === "aborted" ? [aborting] : [fail("requests"), "done"];
      await using at = await scene({ [first]: acts }, { leaves: 1 }, { journals });
      at.disturbed = end === "disturbed";
      await runUnit(at.deps);
      assert.deepEqual(dropsOf(log), end === "disturbed" ? [`drop r2/0: ${first}`] : []);
      assert.equal(log.at(-1), end === "disturbed" ? "sweep: " : `sweep: ${first}`);
    }
  });

  test("is dropped when the unit is stopped because its leaves fail alike", async () => {
    const { journals, log } = recordJournals();
    const failing = Object.fromEntries(
      Array.from({ length: 8 }, (_, n) => [leafAt(n), fail("requests")]),
    );
    await using at = await scene(
      { ...failing, [first]: { kind: "hang" } },
      { leaves: 8, slots: 2 },
      { journals },
    );
    assert.equal((await runUnit(at.deps)).kind, "stopped");
    assert.ok(dropsOf(log).some((line) => line.endsWith(`: ${first}`)));
  });

  test("takes its time to open: who drains meanwhile need not wait for the harness", async () => {
    const { journals } = recordJournals();
    const open = async () => {
      at.drain();
      return new Set<LeafId>();
    };
    await using at = await scene(
      { [first]: { kind: "late" } },
      { leaves: 1 },
      { journals: { ...journals, open } },
    );
    assert.deepEqual(await runUnit(at.deps), { kind: "interrupted" });
    assert.deepEqual(await at.records(), []);
  });

  test("that is off is told in an event of its leaf", async () => {
    const { journals } = recordJournals();
    const open: typeof journals.open = async (_account, leaves, onOff) => {
      for (const { id } of leaves) onOff(id, "the disk is full");
      return new Set();
    };
    await using at = await scene({}, { leaves: 1 }, { journals: { ...journals, open } });
    assert.deepEqual(await runUnit(at.deps), { kind: "ended", open: 0 });
    assert.deepEqual(at.heard("journal.off", "leaf", "reason"), [[first, "the disk is full"]]);
  });
});
