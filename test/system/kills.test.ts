import assert from "node:assert/strict";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { sendSignal } from "../../src/base/proc.ts";
import { RunLayout } from "../../src/run/layout.ts";
import { type Call, callIn, evalHive, startEvalHive } from "../support/eval-hive.ts";
import { type ProcessRole, processesOfRun } from "../support/processes.ts";
import { requirePython } from "../support/require.ts";
import { readScores, scoresOfModel } from "../support/scores.ts";
import { awaitHeld, makeSmallPlace, readEventsOf, type SmallPlace } from "../support/small-run.ts";
import { until } from "../support/until.ts";
import { assertTidyResults } from "../support/whole-state.ts";

const slots = 2;

/** SIGKILL to the process of this role: the only one, or a child of the harness. */
async function killOne(place: SmallPlace, role: ProcessRole): Promise<void> {
  const victims = (await processesOfRun(place.root)).filter((process) => process.role === role);
  assert.equal(victims.length, role === "harness child" ? slots : 1, `processes: ${role}`);
  sendSignal((victims[0] as (typeof victims)[0]).pid, "SIGKILL");
}

/** How often leaves were begun again, by leaf. */
async function repeats(layout: RunLayout): Promise<Record<string, number>> {
  const counts: Record<string, number> = {};
  const seen = new Set<string>();
  for (const { unit, leaf } of await readEventsOf(layout, "leaf.started")) {
    if (seen.has(`${unit} ${leaf}`)) add(counts, [leaf]);
    seen.add(`${unit} ${leaf}`);
  }
  return counts;
}

function add(counts: Record<string, number>, leaves: readonly unknown[]): void {
  for (const leaf of leaves) counts[`${leaf}`] = (counts[`${leaf}`] ?? 0) + 1;
}

async function collectScores(directory: string, call: Call) {
  const collected = await evalHive(["collect", directory], call);
  assert.equal(collected.code, 0, collected.stderr + collected.stdout);
  return await readScores(join(directory, "scores.parquet"));
}

test("each process of a run is killed once: every leaf ends with one result, equal to that of an undisturbed unit", async (t) => {
  const python = requirePython(t);
  if (python === undefined) return;
  // Equal models: the second is evaluated in peace, and has the scores that the first should have.
  const leaves = 20;
  await using place = await makeSmallPlace({ leaves, units: 2, slots });
  const call = callIn(place, python);
  const { layout } = place;
  const begunAgain: Record<string, number> = {};
  await place.hold();
  await using run = await startEvalHive(["run", place.configFile, "-o", layout.directory], call);

  /** Kills while each slot has a leaf in progress; then all goes on, until one more is done. */
  async function disturb(role: ProcessRole): Promise<string[]> {
    const inProgress = await awaitHeld(layout, slots);
    const before = (await place.leafFiles()).length;
    await killOne(place, role);
    if (role === "command") await run.ended;
    await place.letGo();
    if (role === "command") return inProgress;
    await until(async () => (await place.leafFiles()).length > before, {
      timeoutMs: 180_000,
      what: `a leaf is done after the ${role} was killed`,
    });
    await place.hold();
    return inProgress;
  }

  await t.test("a harness child: its leaf failed, and gets another chance", async () => {
    const inProgress = await disturb("harness child");
    // Another leaf may be done before the harness has told of the dead child.
    const failures = await until(
      async () => {
        const told = await readEventsOf(layout, "leaf.failed");
        return told.length > 0 ? told : undefined;
      },
      { what: "the failure is told" },
    );
    assert.deepEqual(
      failures.map((failure) => [failure.class, failure.strike]),
      [["memory", 1]],
    );
    const leaf = failures[0]?.leaf as string;
    assert(inProgress.includes(leaf));
    add(begunAgain, [leaf]);
  });

  for (const role of ["server", "balancer", "node agent"] as const) {
    await t.test(`the ${role}: what was asked is asked again, no leaf is begun again`, async () => {
      await disturb(role);
    });
  }

  for (const role of ["harness parent", "agent"] as const) {
    await t.test(`the ${role}: the leaves in progress are begun again`, async () => {
      add(begunAgain, await disturb(role));
    });
  }

  await t.test("the run itself: all that it started ends, and the next call goes on", async () => {
    add(begunAgain, await disturb("command"));
    await until(async () => (await processesOfRun(place.root)).length === 0, {
      timeoutMs: 180_000,
      what: "nothing runs",
    });
    const again = await evalHive(["run", layout.directory], call);
    assert.equal(again.code, 0, again.stderr);
    assert.deepEqual(await processesOfRun(place.root), []);
  });

  await t.test("in the end nothing is lost, doubled, dead or different", async () => {
    assert.deepEqual(await repeats(layout), begunAgain);
    await assertTidyResults(place, leaves);
    const { dead, invalid, done } = (await place.state()).leaves;
    assert.deepEqual({ dead, invalid, done }, { dead: 0, invalid: 0, done: 2 * leaves });
    const rows = await collectScores(layout.directory, call);
    const peaceful = scoresOfModel(rows, "small-1");
    assert.equal(peaceful.size, 2 * leaves);
    assert.deepEqual(scoresOfModel(rows, "small-0"), peaceful);
  });
});

/**
 * A task in whose middle two evaluations wait for each other: each has seen that the leaf has no result yet, and writes
 * its samples, which prints the targets for the second time.
 */
const meeting = {
  "meeting.yaml": `include: _generate_base
task: meeting
doc_to_target: !function meeting.target
`,
  "meeting.py": `import os
import time


class Target(str):
    printed = 0

    def __str__(self):
        self.printed += 1
        if self.printed == 2:
            meet(os.path.join(os.environ["EH_TEST_RUN"], "meeting"))
        return str.__str__(self)


def target(doc):
    return Target(doc["a"])


def meet(place):
    os.makedirs(place, exist_ok=True)
    open(os.path.join(place, str(os.getpid())), "w").close()
    deadline = time.monotonic() + 60
    while len(os.listdir(place)) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
`,
};

test("two runs that evaluate the same leaf at the same time leave one result, and the loser removes its samples", async (t) => {
  const python = requirePython(t);
  if (python === undefined) return;
  await using place = await makeSmallPlace({ suites: ["meeting"], taskFiles: meeting, slots: 1 });
  const call = callIn(place, python);
  const directories = ["a", "b"].map((name) => join(place.root, "runs", name));
  const runs = await Promise.all(
    directories.map((directory) => startEvalHive(["run", place.configFile, "-o", directory], call)),
  );
  for (const run of runs) assert.equal((await run.ended).code, 0, run.stderr());

  assert.equal((await readdir(join(place.root, "meeting"))).length, 2);
  await assertTidyResults(place, 1);
  const outcomes: string[] = [];
  for (const directory of directories) {
    const done = await readEventsOf(new RunLayout(directory), "leaf.done");
    outcomes.push(...done.map(({ outcome }) => outcome));
    assert.deepEqual(
      (await collectScores(directory, call)).map(({ task, metric }) => [task, metric]),
      [["meeting", "exact_match"]],
    );
  }
  assert.deepEqual(outcomes.sort(), ["created", "existing"]);
});
