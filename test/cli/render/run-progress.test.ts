import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { openRunDisplay, renderRunEnd } from "../../../src/cli/render/run.ts";
import { renderProgress } from "../../../src/cli/render/run-progress.ts";
import type { AgentState, RunState, UnitState } from "../../../src/events/run-state.ts";
import { runStateOf } from "../../../src/events/run-state.ts";
import { syntheticPlan } from "../../support/synthetic-run.ts";

function stateWith(units: number, changes: (state: RunState) => void): RunState {
  const plan = syntheticPlan({ directory: "/nowhere", units, leaves: 8 });
  const state = runStateOf({ plan, units: new Map(), writers: [], gone: new Set() });
  changes(state);
  return state;
}

function setUnit(state: RunState, at: number, name: UnitState["state"], done: number): void {
  const unit = state.units[at] as UnitState;
  unit.state = name;
  unit.leaves = { ...unit.leaves, done, open: unit.leaves.total - done };
  state.leaves.done += done;
  state.leaves.open -= done;
}

function agentAt(unit: string, more: Partial<AgentState> = {}): AgentState {
  return {
    owner: "local-p1-00000000",
    pid: 1,
    node: "here",
    job: "local",
    slots: 1,
    state: "running",
    reason: null,
    message: null,
    started_at: "2026-11-24T04:00:00.000Z",
    last_at: "2026-11-24T04:00:00.000Z",
    at_hand: [
      {
        slot: 0,
        unit,
        batch: "b",
        leaf: "arc",
        phase: "requests",
        done: 12,
        total: 60,
        not_journalled: {},
      },
    ],
    servers: [],
    requests_per_s: 41.4,
    ...more,
  };
}

const view = { title: "runs/mine", elapsedS: 43, height: 20, stopping: false };

describe("the live table", () => {
  test("shows the whole, every unit and every slot", () => {
    const state = stateWith(2, (it) => {
      setUnit(it, 0, "completed", 8);
      setUnit(it, 1, "running", 2);
      it.agents.push(agentAt("model--step_100"));
      it.requests_per_s = 41.4;
      it.eta_s = 130;
    });
    assert.deepEqual(renderProgress(state, view), [
      "runs/mine  ████████████░░░░░░░░ 62 %  10 of 16 leaves done, 41 requests/s, about 2 min left  (43 s)",
      "",
      "model--step_0    ████████████  8/8  done",
      "model--step_100  ███░░░░░░░░░  2/8  running",
      "",
      "slot 0  model--step_100  arc  requests  12/60",
    ]);
  });

  test("keeps to its height: units at work first, the others counted", () => {
    const state = stateWith(500, (it) => {
      for (let n = 0; n < 300; n++) setUnit(it, n, "completed", 8);
      setUnit(it, 300, "running", 1);
      setUnit(it, 301, "failed", 1);
    });
    const lines = renderProgress(state, { ...view, height: 8 });
    assert.equal(lines.length, 7);
    assert.match(lines[2] ?? "", /model--step_30000 .* running/);
    assert.match(lines[3] ?? "", /model--step_30100 .* failed/);
    assert.equal(lines.at(-1), "… and 196 not started, 300 done");
  });

  test("says what is wrong with a server, and that it was asked to stop", () => {
    const state = stateWith(1, (it) => {
      const server = {
        server: 0,
        unit: null,
        node: "here",
        start_attempt: 2,
        reason: "boom\nmore",
      };
      it.agents.push(agentAt("model--step_0", { servers: [{ ...server, state: "restarting" }] }));
    });
    const lines = renderProgress(state, { ...view, stopping: true });
    assert.ok(lines.includes("server 0 restarting, start 2: boom"), lines.join("\n"));
    assert.match(lines.at(-1) ?? "", /Ctrl-C again stops at once/);
  });
});

describe("without a terminal", () => {
  function lines(plain: boolean) {
    const written: string[] = [];
    const stderr = {
      columns: 80,
      rows: 24,
      isTTY: plain,
      write: (text: string) => written.push(text),
    };
    const options = {
      stderr,
      plain,
      title: "runs/mine",
      stopping: () => false,
      monotonic: () => 0,
    };
    return { written, display: openRunDisplay(options) };
  }

  for (const plain of [true, false]) {
    test(`there is one plain line per change, also ${plain ? "when lines are asked for" : "in a pipe"}`, () => {
      const { written, display } = lines(plain);
      const state = stateWith(1, () => {});
      display.look(state);
      display.look({ ...state, requests_per_s: 3, eta_s: 5 });
      setUnit(state, 0, "running", 1);
      state.agents.push(agentAt("model--step_0"));
      state.requests_per_s = 3.25;
      display.look(state);
      display.say("a word");
      assert.deepEqual(written, [
        "eval-hive: 0 of 8 leaves done\n",
        "eval-hive: 1 of 8 leaves done, 3.3 requests/s; at model--step_0\n",
        "eval-hive: a word\n",
      ]);
    });
  }
});

test("the end names what is wrong and the next command", () => {
  const state = stateWith(1, (it) => {
    setUnit(it, 0, "failed", 7);
    (it.units[0] as UnitState).dead = [
      { leaf: "task_0007" as never, strikes: 3, class: "metric", message: "ZeroDivisionError" },
    ];
  });
  assert.equal(
    renderRunEnd(state, "runs/mine"),
    [
      "7 of 8 leaves done",
      "model--step_0: dead: task_0007: metric: ZeroDivisionError",
      "  Correct the task's scoring; then give it another chance with requeue",
      "next: eval-hive status runs/mine",
      "",
    ].join("\n"),
  );
});
