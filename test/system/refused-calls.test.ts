import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { type TestContext, test } from "node:test";
import { openRandom } from "../../examples/demo/random.ts";
import {
  assertSyncedBeforeNamed,
  type Fault,
  type FaultEnd,
  RefusingPlace,
  type Stricken,
  stricken,
} from "../support/refusals.ts";
import { isLong, requirePython } from "../support/require.ts";
import { makeSmallPlace, type SmallPlace } from "../support/small-run.ts";
import { requireStrace, type StoringCall } from "../support/strace.ts";
import { assertStateIsWhole, assertTidyResults } from "../support/whole-state.ts";

const seed = 20261126;
const leaves = 4;

const calls = ["write", "fsync", "rename", "link"] as const;

/** How the command must tell of each. Those that may pass by themselves are refused once, the others from then on. */
const told = {
  ENOSPC: /file system is full|No space left/,
  EDQUOT: /quota/i,
  EIO: /input\/output error/i,
  ESTALE: /replaced on the file server|Stale file handle/,
} as const;
type Errno = keyof typeof told;
const errors = Object.keys(told) as Errno[];

function fault(role: Fault["role"], call: Fault["call"], error: Errno, from: number): Fault {
  const passes = error === "EIO" || error === "ESTALE";
  return { role, call, error, from, ...(passes && { to: from }) };
}

/** Whatever was refused: what is there is whole, and whoever gave up said which file, why, and the way out. */
async function assertHarmless(place: SmallPlace, fault: Fault, end: FaultEnd): Promise<void> {
  const what = `${JSON.stringify(fault)}: ${end.stderr}`;
  await assertStateIsWhole(place);
  assertSyncedBeforeNamed(end.calls);
  if (end.exit.code === 0) return;
  assert.equal(end.exit.code, 3, what);
  assert.ok(end.refused.length > 0, `nothing was refused: ${what}`);
  assert.match(end.stderr, /Cannot .*"?\/[^"']+["'].*/, what);
  assert.match(end.stderr, told[fault.error as Errno], what);
  assert.match(
    end.stderr,
    /\n {2}(Nothing was lost|Results are safe|Free space|Finished leaves)/,
    what,
  );
}

/** @param after what was refused before */
async function assertFinishes(at: RefusingPlace, place: SmallPlace, after?: Fault): Promise<void> {
  const { exit, told } = await at.run("run", place.configFile, "-o", place.layout.directory);
  assert.equal(exit.code, 0, `after ${JSON.stringify(after)}: ${told}`);
  await assertTidyResults(place, leaves);
  const { done, dead, invalid, total } = (await place.state()).leaves;
  assert.deepEqual(
    { done, dead, invalid, total },
    { done: leaves, dead: 0, invalid: 0, total: leaves },
  );
}

/** The next create-run, or the update of what is there, leaves all to be done once. */
async function assertPlans(at: RefusingPlace, place: SmallPlace, after: Fault): Promise<void> {
  const isThere = existsSync(place.layout.plan);
  const { exit, told } = await at.createRun(...(isThere ? ["--update"] : []));
  assert.equal(exit.code, 0, `after ${JSON.stringify(after)}: ${told}`);
  const { open, total } = (await place.state()).leaves;
  assert.deepEqual({ open, total }, { open: leaves, total: leaves });
}

/** As many calls of a kind does each make at least. What an agent writes it also waits for: that takes too long here. */
const leastSteps: Readonly<Record<Stricken, Partial<Record<StoringCall, number>>>> = {
  "create-run": { write: 8, fsync: 12, rename: 4, link: 3 },
  command: { write: 1, fsync: 2, link: 1 },
  agent: { rename: 4, link: 2 },
  "harness child": { write: 1, fsync: 3, link: 1 },
};

/** From its third rename on, an agent can give back no batch that it has claimed. */
const keepsBatches: Fault = { role: "agent", call: "rename", error: "ENOSPC", from: 3 };

/** A few, chosen by the seed, and one that was hard to get over. */
async function refuseSome(t: TestContext): Promise<void> {
  const python = requirePython(t);
  if (python === undefined || !requireStrace(t)) return;
  await using place = await makeSmallPlace({ leaves, slots: 2 });
  const at = await RefusingPlace.open(place, python);
  assertSyncedBeforeNamed(at.undisturbed);
  const random = openRandom(seed);
  // One after the other in one run directory: each goes on where the one before had to give up.
  for (const role of stricken) {
    const [call, steps] = random.pick(Object.entries(leastSteps[role]) as [StoringCall, number][]);
    const chosen = fault(role, call, random.pick(errors), 1 + random.below(steps));
    const end = await at.strike(chosen);
    t.diagnostic(
      `${JSON.stringify(chosen)}: ${end.refused.length} refused, exit code ${end.exit.code}`,
    );
    assert.ok(end.refused.length > 0, `nothing was refused: ${JSON.stringify(chosen)}`);
    await assertHarmless(place, chosen, end);
    if (role === "create-run") await at.createRun();
    else if (end.exit.code === 0) {
      // It outlived the fault, and nothing is left to refuse.
      await assertTidyResults(place, leaves);
      await at.planAnew();
    }
  }
  await assertFinishes(at, place);
  await at.planAnew();
  const end = await at.strike(keepsBatches);
  assert.equal(end.exit.code, 3, end.stderr);
  await assertHarmless(place, keepsBatches, end);
  await assertFinishes(at, place, keepsBatches);
}

/**
 * Each in a run directory of its own, until none is left to refuse. The errors take turns: what follows from a refusal
 * depends on the call more than on its reason, and all of both would take hours.
 */
async function refuseAll(t: TestContext, role: Stricken): Promise<void> {
  const python = requirePython(t);
  if (python === undefined || !requireStrace(t)) return;
  await using place = await makeSmallPlace({ leaves, slots: 2 });
  const at = await RefusingPlace.open(place, python);
  let [faults, given] = [0, 0];
  for (const [first, call] of calls.entries()) {
    for (let from = 1; ; from++) {
      await (role === "create-run" ? at.reset() : at.planAnew());
      const chosen = fault(role, call, errors[(first + from) % errors.length] as Errno, from);
      const end = await at.strike(chosen);
      await assertHarmless(place, chosen, end);
      if (end.refused.length === 0) break;
      faults += 1;
      if (end.exit.code === 0) continue;
      given += 1;
      // A plan that is whole is evaluated like any other: now and then is enough.
      const isEnough = role === "create-run" && given % 8 !== 1;
      await (isEnough ? assertPlans(at, place, chosen) : assertFinishes(at, place, chosen));
    }
  }
  t.diagnostic(`${faults} faults, ${given} ended a command`);
}

if (!isLong) {
  test(
    "a full disk, a quota or a failing file server ends a run with file, cause and way out; what is there is whole, and the next run finishes",
    refuseSome,
  );
} else {
  for (const role of stricken) {
    test(`every call of ${role} refused in turn`, {
      timeout: 7_200_000,
    }, async (t) => {
      await refuseAll(t, role);
    });
  }
}
