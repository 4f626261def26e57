import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { type RequeueOptions, requeue } from "../../src/controller/requeue.ts";
import { openFsQueue } from "../../src/queue/fs-queue.ts";
import { readStoppedUnits, recordUnitFailure } from "../../src/queue/stopped-units.ts";
import { readStrikes, recordStrike, strikeKey } from "../../src/queue/strikes.ts";
import { type OwnerId, shardId } from "../../src/run/ids.ts";
import { readPlan } from "../../src/run/plan-file.ts";
import {
  fingerprintAt,
  leafAt,
  makeSyntheticRun,
  type SyntheticRun,
  unitAt,
} from "../support/synthetic-run.ts";
import { temporaryDirectory } from "../support/temporary.ts";

const me = "local-p1-00000001" as OwnerId;
const at = "2026-11-26T00:00:00.000Z";

/** Two units of three leaves, all batches done; of each unit leaf 1 is dead, and leaf 2 too, but it has a result by now. */
async function someDead() {
  const directory = await temporaryDirectory();
  const run = await makeSyntheticRun({ directory: directory.path, units: 2, leaves: 3 });
  const { layout } = run;
  await using queue = await openFsQueue({ layout });
  for (const n of [0, 1]) {
    const unit = unitAt(n);
    for (let left = 3; left > 0; left--) {
      await (await queue.claim(shardId(unit, 0), me))?.finish();
    }
    await queue.fold(shardId(unit, 0));
    await run.settle(unit, [leafAt(0), leafAt(2)]);
    for (const leaf of [1, 2]) await kill(run, n, leaf);
  }
  return { ...run, [Symbol.asyncDispose]: () => directory[Symbol.asyncDispose]() };
}

async function kill({ layout }: SyntheticRun, unit: number, leaf: number): Promise<void> {
  await recordStrike(layout, unitAt(unit), strikeKey(leafAt(leaf), fingerprintAt(leaf)), {
    kind: "strike",
    class: "load",
    permanent: true,
    message: "no",
    trace_tail: [],
    owner: me,
    batch: "b",
    attempt: 1,
    at,
  });
}

async function isDead({ layout }: SyntheticRun, unit: number): Promise<boolean | undefined> {
  const strikes = await readStrikes(layout, unitAt(unit));
  return strikes.get(strikeKey(leafAt(1), fingerprintAt(1)))?.isDead;
}

function asked({ layout }: SyntheticRun, more: Partial<RequeueOptions> = {}): RequeueOptions {
  return { layout, signal: new AbortController().signal, say: () => {}, ...more };
}

describe("requeue", () => {
  test("gives every dead leaf another chance, in a new generation, and nothing else", async () => {
    await using run = await someDead();
    assert.deepEqual(await requeue(asked(run)), [
      { unit: unitAt(0), leaf: leafAt(1) },
      { unit: unitAt(1), leaf: leafAt(1) },
    ]);
    assert.deepEqual([await isDead(run, 0), await isDead(run, 1)], [false, false]);
    const { units, epoch } = await readPlan(run.layout);
    assert.deepEqual(units[0]?.generations, [0, 1]);
    await using queue = await openFsQueue({ layout: run.layout, epoch });
    const batches = await queue.batches(shardId(unitAt(0), 1));
    assert.deepEqual(
      batches.flatMap(({ leaves }) => leaves),
      [leafAt(1)],
    );
    assert.deepEqual(await requeue(asked(run)), [], "a second time there is none");
  });

  test("of one unit, or one leaf, leaves the others as they are", async () => {
    await using run = await someDead();
    assert.deepEqual(await requeue(asked(run, { leaves: [leafAt(0)] })), []);
    const chosen = { units: [unitAt(1)], leaves: [leafAt(1)] };
    assert.deepEqual(await requeue(asked(run, chosen)), [{ unit: unitAt(1), leaf: leafAt(1) }]);
    assert.deepEqual([await isDead(run, 0), await isDead(run, 1)], [true, false]);
  });

  test("lets units that were given up be tried again", async () => {
    await using run = await someDead();
    for (const n of [0, 1]) {
      const failure = { reason: "r", class: "load", owner: me, at };
      await recordUnitFailure(run.layout, unitAt(n), failure);
    }
    await requeue(asked(run, { units: [unitAt(0)] }));
    assert.deepEqual([...(await readStoppedUnits(run.layout)).keys()], [unitAt(1)]);
  });

  test("refuses what the run does not have, and guesses what was meant", async () => {
    await using run = await someDead();
    await assert.rejects(requeue(asked(run, { units: ["model--step_00"] })), {
      code: "run.unknown-name",
      exitCode: 2,
      hint: `Did you mean "${unitAt(0)}"?`,
    });
    await assert.rejects(requeue(asked(run, { leaves: ["nothing-like-it"] })), {
      hint: "See `eval-hive status --detailed`.",
    });
    assert.equal(await isDead(run, 0), true);
  });
});
