import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { CommandContext } from "../../src/cli/command.ts";
import { type EventsCommandOptions, eventsCommand } from "../../src/cli/commands/events.ts";
import { openJournal } from "../../src/events/journal.ts";
import { writePlan } from "../../src/run/plan-file.ts";
import { fingerprintAt, leafAt, makeSyntheticRun, unitAt } from "../support/synthetic-run.ts";
import { temporaryDirectory } from "../support/temporary.ts";

/** Two units of which the first leaf was begun; an update has taken the second unit out of the plan since. */
async function begunRun() {
  const directory = await temporaryDirectory();
  const { layout, plan } = await makeSyntheticRun({
    directory: directory.path,
    units: 2,
    leaves: 2,
  });
  {
    await using journal = await openJournal({ layout, runId: plan.run_id, node: "n" });
    for (const n of [0, 1]) {
      const subject = { unit: unitAt(n), leaf: leafAt(0), batch: `b${n}` as never, attempt: 1 };
      await journal.publish("leaf.started", subject, { slot: 0, fingerprint: fingerprintAt(0) });
    }
  }
  const [unit] = plan.units;
  const [id, leaf] = Object.entries(plan.leaves)[0] ?? [];
  const leaves = { ...plan.leaves, [`${id}`]: { ...leaf, name: "arc_easy" } };
  await writePlan(layout, { ...plan, leaves, units: unit === undefined ? [] : [unit] } as never);
  return {
    unitsOf: async (options: EventsCommandOptions): Promise<string[]> => {
      const context = { cwd: directory.path } as CommandContext;
      const { data } = await eventsCommand(layout.directory, options, context);
      return (data as { events: { unit: string }[] }).events.map(({ unit }) => unit);
    },
    [Symbol.asyncDispose]: () => directory[Symbol.asyncDispose](),
  };
}

describe("events asks for", () => {
  test("a unit or leaf of the plan, or one that was in it once", async () => {
    await using run = await begunRun();
    const [first, second] = [unitAt(0), unitAt(1)];
    assert.deepEqual(await run.unitsOf({}), [first, second]);
    assert.deepEqual(await run.unitsOf({ unit: first }), [first]);
    assert.deepEqual(await run.unitsOf({ unit: second }), [second]);
    assert.deepEqual(await run.unitsOf({ leaf: leafAt(0) }), [first, second]);
    assert.deepEqual(await run.unitsOf({ leaf: "arc_easy", unit: first }), [first]);
    assert.deepEqual(await run.unitsOf({ leaf: leafAt(1) }), []);
  });

  test("one that the run never had: refused, with what was meant", async () => {
    await using run = await begunRun();
    const refusal = { code: "run.unknown-name", exitCode: 2 };
    await assert.rejects(run.unitsOf({ unit: "model--step_00" }), {
      ...refusal,
      message: 'Cannot find unit "model--step_00": the run has none',
      hint: `Did you mean "${unitAt(0)}"?`,
    });
    await assert.rejects(run.unitsOf({ leaf: "arc_eazy" }), {
      ...refusal,
      hint: 'Did you mean "arc_easy"?',
    });
  });
});
