import assert from "node:assert/strict";
import { readdir, readFile } from "node:fs/promises";
import { describe, test } from "node:test";
import {
  addFailedUnits,
  failedUnitLines,
  writeCompletedUnits,
} from "../../src/controller/progress-files.ts";
import type { RunState, UnitState } from "../../src/events/run-state.ts";
import type { UnitId } from "../../src/run/ids.ts";
import { RunLayout } from "../../src/run/layout.ts";
import { temporaryDirectory } from "../support/temporary.ts";

const ended = {
  job: "local",
  at: new Date("2026-11-26T03:04:05.678Z"),
  interrupted: false,
  isFailure: false,
};

function unit(state: UnitState["state"], more: Partial<UnitState> = {}): UnitState {
  const leaves = { total: 4, done: 1, invalid: 1, dead: 0, open: 2, running: 0 };
  return { unit: `m--${state}` as UnitId, state, leaves, stopped: null, ...more } as UnitState;
}

function lines(units: UnitState[], more: Partial<typeof ended> = {}): string[] {
  return failedUnitLines({ units } as RunState, { ...ended, ...more });
}

describe("jobs_failed.log", () => {
  test("has a line per unit that was given up, or of which nothing is left to try", () => {
    const stopped = { class: "server-start", reason: "no such\n  weights" };
    const others = { class: "requests", reason: "8 leaves failed alike" };
    assert.deepEqual(
      lines([
        unit("completed"),
        unit("pending", { stopped }),
        unit("failed", { stopped: others }),
        unit("failed"),
        unit("not_started"),
      ]),
      [
        "m--pending 2026-11-26 03:04:05 server_startup_failed local server-start: no such weights",
        "m--failed 2026-11-26 03:04:05 eval_failures local requests: 8 leaves failed alike",
        "m--failed 2026-11-26 03:04:05 eval_failures local 1 of 4 leaves done, 0 dead, 1 invalid",
      ],
    );
  });

  test("says of what was begun why nobody is at it", () => {
    const begun = [unit("pending"), unit("not_started")];
    const reasons = (more: Partial<typeof ended>) =>
      lines(begun, more).map((line) => line.split(" ")[3]);
    assert.deepEqual(reasons({}), []);
    assert.deepEqual(reasons({ interrupted: true }), ["manual_cancellation"]);
    assert.deepEqual(reasons({ isFailure: true, interrupted: true }), ["eval_failures"]);
  });

  test("grows, while jobs_completed.log says what is so now", async () => {
    await using directory = await temporaryDirectory();
    const layout = new RunLayout(directory.path);
    await writeCompletedUnits(layout, ["a--main", "b--main"] as UnitId[]);
    await writeCompletedUnits(layout, ["b--main", "c--main"] as UnitId[]);
    assert.equal(await readFile(layout.completedUnits, "utf8"), "b--main\nc--main\n");
    const state = { units: [unit("failed")] } as RunState;
    await addFailedUnits(layout, state, ended);
    await addFailedUnits(layout, { units: [unit("completed")] } as RunState, ended);
    await addFailedUnits(layout, state, { ...ended, job: "4711" });
    const failed = (await readFile(layout.failedUnits, "utf8")).split("\n");
    assert.deepEqual(
      failed.map((line) => line.split(" ")[4]),
      ["local", "4711", undefined],
    );
    assert.deepEqual(await readdir(layout.progress), ["jobs_completed.log", "jobs_failed.log"]);
  });
});
