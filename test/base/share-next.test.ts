import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { shareNext } from "../../src/base/share-next.ts";
import { until } from "../support/until.ts";

/** Work that ends when the test says so. */
function startWork() {
  const begun: { key: string; end: PromiseWithResolvers<void> }[] = [];
  const call = shareNext((key) => {
    const end = Promise.withResolvers<void>();
    begun.push({ key, end });
    return end.promise;
  });
  return { begun, call, keys: () => begun.map(({ key }) => key) };
}

describe("shareNext", () => {
  test("lets all calls that come meanwhile share the next, which begins after the one under way", async () => {
    const { begun, call, keys } = startWork();
    const first = call("a");
    const others = [call("a"), call("a"), call("a")];
    assert.deepEqual(keys(), ["a"]);
    begun[0]?.end.resolve();
    await first;
    await until(() => begun.length === 2);
    // Who comes now comes too late for it.
    const late = call("a");
    assert.deepEqual(keys(), ["a", "a"]);
    begun[1]?.end.resolve();
    await Promise.all(others);
    await until(() => begun.length === 3);
    assert.deepEqual(keys(), ["a", "a", "a"]);
    begun[2]?.end.resolve();
    await late;
    const afterwards = call("a");
    assert.equal(begun.length, 4);
    begun[3]?.end.resolve();
    await afterwards;
  });

  test("never does two at once, whenever a call comes", async () => {
    let atOnce = 0;
    let most = 0;
    const call = shareNext(async () => {
      most = Math.max(most, ++atOnce);
      await null;
      atOnce -= 1;
    });
    const calls = [call("a"), call("a")];
    for (let tick = 0; tick < 20; tick++) {
      await null;
      calls.push(call("a"));
    }
    await Promise.all(calls);
    assert.equal(most, 1);
  });

  test("keeps keys apart, and tells a failure to those alone who shared it", async () => {
    const { begun, call, keys } = startWork();
    const failing = call("a");
    const next = call("a");
    const other = call("b");
    assert.deepEqual(keys(), ["a", "b"]);
    begun[0]?.end.reject(new Error("disk full"));
    await assert.rejects(failing, /disk full/);
    begun[1]?.end.resolve();
    await other;
    await until(() => begun.length === 3);
    begun[2]?.end.resolve();
    await next;
  });
});
