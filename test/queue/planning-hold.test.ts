import assert from "node:assert/strict";
import { test } from "node:test";
import { identifyThisProcess } from "../../src/queue/owner-record.ts";
import { holdPlanning } from "../../src/queue/planning-hold.ts";
import { RunLayout } from "../../src/run/layout.ts";
import { temporaryDirectory } from "../support/temporary.ts";
import { until } from "../support/until.ts";

const never = new AbortController().signal;

async function place() {
  const directory = await temporaryDirectory();
  const layout = new RunLayout(directory.path);
  const said: string[] = [];
  return {
    said,
    hold: async (owner: string, signal = never) =>
      await holdPlanning(layout, {
        identity: await identifyThisProcess(owner),
        signal,
        say: (message) => void said.push(message),
      }),
    [Symbol.asyncDispose]: () => directory[Symbol.asyncDispose](),
  };
}

test("whoever replaces the plan is waited for, and says once for whom", async () => {
  await using at = await place();
  const order: string[] = [];
  const first = await at.hold("first");
  const second = at.hold("second").then((hold) => {
    order.push("second");
    return hold;
  });
  await until(() => at.said.length > 0);
  order.push("first");
  await first[Symbol.asyncDispose]();
  await using _second = await second;
  assert.deepEqual(order, ["first", "second"]);
  assert.equal(at.said.length, 1);
  assert.match(at.said[0] ?? "", new RegExp(`^waiting for process ${process.pid} on `));
});

test("waiting for it can be given up", async () => {
  await using at = await place();
  await using _first = await at.hold("first");
  const patience = new AbortController();
  const second = at.hold("second", patience.signal);
  await until(() => at.said.length > 0);
  patience.abort(new Error("SIGINT"));
  await assert.rejects(second, { name: "AbortError" });
});
