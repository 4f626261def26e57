import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { renderHistory } from "../../src/cli/render/events.ts";
import type { EventEnvelope } from "../../src/events/event.ts";
import { selectHistory } from "../../src/events/history.ts";

let seq = 0;

function event(writer: string, type: string, more: Partial<EventEnvelope> = {}): EventEnvelope {
  seq += 1;
  const at = new Date(seq * 1_000).toISOString();
  return { schema_version: 1, type, run: "r", node: "n", writer, seq, at, ...more };
}

const lease = { unit: "m--main", batch: "b1", attempt: 1 };
const again = { ...lease, attempt: 2 };
const events = [
  event("one", "agent.started", { owner: "o1" }),
  event("one", "batch.leased", { ...lease, leaves: ["x", "y"] }),
  event("one", "leaf.started", { ...lease, leaf: "x" }),
  event("one", "harness.ended", { pid: 7, how: "SIGKILL" }),
  event("two", "agent.started", { owner: "o2" }),
  event("two", "batch.reclaimed", { unit: "m--main", batch: "b1", owner: "o1" }),
  event("two", "batch.leased", { ...again, leaves: ["x", "y"] }),
  event("two", "leaf.started", { ...again, leaf: "x" }),
  event("two", "leaf.done", { ...again, leaf: "x", n_requests: 40 }),
  event("two", "leaf.started", { ...again, leaf: "y" }),
  event("three", "agent.started", { owner: "o3" }),
  event("three", "batch.leased", { unit: "m--main", batch: "b2", attempt: 1, leaves: ["z"] }),
];

const is = (wanted: string) => (leaf: string) => leaf === wanted;

describe("the history of a run", () => {
  test("of a leaf is its own, and that of the batches and agents that brought it", () => {
    const told = selectHistory(events, { leaf: is("x") });
    assert.deepEqual(told, events.slice(0, 9));
    assert.deepEqual(selectHistory(events, { leaf: is("nobody") }), []);
  });

  test("of types takes a whole type, or all that begin alike", () => {
    const types = (wanted: string[]) => selectHistory(events, { types: wanted }).length;
    assert.deepEqual(
      [types(["leaf"]), types(["leaf.done"]), types(["leaf.done", "agent"])],
      [4, 1, 4],
    );
    assert.equal(types(["lea"]), 0);
  });

  test("of a unit leaves out what is about none", () => {
    assert.equal(selectHistory(events, { unit: "m--main" }).length, 8);
    assert.equal(selectHistory(events, { unit: "m--main", leaf: is("y") }).length, 4);
  });

  test("reads as one line per event, with what the event says besides", () => {
    const lines = renderHistory(selectHistory(events, { leaf: is("x") }))
      .trimEnd()
      .split("\n");
    assert.equal(lines.length, 9);
    assert.match(
      lines[8] ?? "",
      /^1970-01-01 00:00:09 {2}two {2}leaf\.done +m--main x batch b1 attempt 2 {2}n_requests=40$/,
    );
    assert.equal(renderHistory([]), "No event fits\n");
  });
});
