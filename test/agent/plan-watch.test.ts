import assert from "node:assert/strict";
import { test } from "node:test";
import { openPlanWatch } from "../../src/agent/plan-watch.ts";
import { raiseEpoch } from "../../src/queue/epoch.ts";
import { writePlan } from "../../src/run/plan-file.ts";
import { ManualClock } from "../support/manual-clock.ts";
import { makeSyntheticRun, type SyntheticRun } from "../support/synthetic-run.ts";
import { temporaryDirectory } from "../support/temporary.ts";
import { until } from "../support/until.ts";

const changes: Record<string, (run: SyntheticRun) => Promise<unknown>> = {
  "that is replaced": ({ layout, plan }) => writePlan(layout, plan),
  "whose queue enters another epoch": ({ layout }) => raiseEpoch(layout),
};
for (const [what, change] of Object.entries(changes)) {
  test(`a plan ${what} is seen within 20 s, and one that stays is not`, async () => {
    await using directory = await temporaryDirectory();
    const run = await makeSyntheticRun({ directory: directory.path, units: 1, leaves: 1 });
    const clock = new ManualClock();
    using watch = await openPlanWatch(run.layout, clock);
    for (let looks = 0; looks < 3; looks++) {
      await until(() => clock.sleepers === 1);
      clock.advance(20_000);
      await until(() => clock.sleepers === 1);
      assert.equal(watch.changed.aborted, false);
    }
    await change(run);
    clock.advance(20_000);
    await until(() => watch.changed.aborted);
  });
}

test("a watch that is closed leaves no timer", async () => {
  await using directory = await temporaryDirectory();
  const run = await makeSyntheticRun({ directory: directory.path, units: 1, leaves: 1 });
  const clock = new ManualClock();
  const watch = await openPlanWatch(run.layout, clock);
  await until(() => clock.sleepers === 1);
  watch[Symbol.dispose]();
  assert.equal(clock.sleepers, 0);
});
