import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { type Clock, systemClock } from "../../src/base/clock.ts";
import { mapConcurrently } from "../../src/base/map-concurrently.ts";
import { retry } from "../../src/base/retry.ts";
import { TaskGroup } from "../../src/base/task-group.ts";

/** Records how long was slept instead of sleeping. */
function sleeplessClock(): Clock & { slept: number[] } {
  const slept: number[] = [];
  return { ...systemClock, slept, sleep: async (ms) => void slept.push(ms) };
}

describe("retry", () => {
  test("doubles its pauses up to the longest and gives the first success", async () => {
    const clock = sleeplessClock();
    let calls = 0;
    const result = await retry(
      async () => {
        calls += 1;
        if (calls < 5) throw new Error("not yet");
        return "there";
      },
      { attempts: 5, firstDelayMs: 100, maxDelayMs: 300, clock },
    );
    assert.equal(result, "there");
    assert.deepEqual(clock.slept, [100, 200, 300, 300]);
  });

  test("throws the last error when no attempt is left, or it can't be helped", async () => {
    const clock = sleeplessClock();
    let calls = 0;
    const fail = async (): Promise<never> => {
      throw new Error(`failure ${++calls}`);
    };
    const options = { attempts: 3, firstDelayMs: 1, maxDelayMs: 1, clock };
    await assert.rejects(retry(fail, options), { message: "failure 3" });
    await assert.rejects(retry(fail, { ...options, retryable: () => false }), {
      message: "failure 4",
    });
  });
});

describe("TaskGroup", () => {
  const untilAborted = (signal: AbortSignal): Promise<void> =>
    new Promise((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));

  test("aborts and awaits the others when one fails", async () => {
    let ended = false;
    await using group = new TaskGroup();
    group.start(async (signal) => {
      await untilAborted(signal);
      ended = true;
    });
    group.start(async () => {
      throw new Error("broken");
    });
    await assert.rejects(group.join(), { message: "broken" });
    assert.ok(ended);
  });

  test("lets no task outlive the block", async () => {
    let ended = false;
    {
      await using group = new TaskGroup();
      group.start(async (signal) => {
        await untilAborted(signal);
        ended = true;
      });
    }
    assert.ok(ended);
  });
});

describe("mapConcurrently", () => {
  test("keeps the order and never has more than its width under way", async () => {
    let running = 0;
    let most = 0;
    const results = await mapConcurrently(
      [5, 1, 4, 2, 3],
      async (n) => {
        most = Math.max(most, ++running);
        for (let i = 0; i < n; i++) await Promise.resolve();
        running -= 1;
        return n * 10;
      },
      2,
    );
    assert.deepEqual(results, [50, 10, 40, 20, 30]);
    assert.equal(most, 2);
  });
});
