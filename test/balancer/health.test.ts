import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import {
  freshHealth,
  type Health,
  type HealthEvent,
  isFrozen,
  nextHealth,
  standingOf,
} from "../../src/balancer/health.ts";

/** What becomes of a server after these events, each at its instant. */
function after(events: readonly (readonly [at: number, event: HealthEvent])[]): Health {
  return events.reduce((health, [at, event]) => nextHealth(health, event, at), freshHealth(0));
}

const passed = { kind: "check-passed" } as const;
const failedCheck = { kind: "check-failed", reason: "no answer" } as const;
const refused = { kind: "unreachable", reason: "refuses connections" } as const;
const answered = { kind: "answered" } as const;
const failed = { kind: "failed" } as const;
const bad = { kind: "bad-answer", othersAnsweredAt: Number.POSITIVE_INFINITY } as const;

describe("a server", () => {
  test("is asked before its first check: whoever names it has looked", () => {
    assert.equal(standingOf(freshHealth(0), 0), "ready");
  });

  test("goes down when two checks in a row fail, and comes back when one passes", () => {
    assert.equal(standingOf(after([[0, failedCheck]]), 1), "ready");
    const apart = after([
      [0, failedCheck],
      [1, passed],
      [2, failedCheck],
    ]);
    assert.equal(standingOf(apart, 3), "ready");
    const down = after([
      [0, failedCheck],
      [1, failedCheck],
    ]);
    assert.deepEqual([standingOf(down, 2), down.down?.reason], ["down", "no answer"]);
    assert.equal(standingOf(nextHealth(down, passed, 3), 3), "ready");
  });

  test("goes down at once when it refuses a connection, and comes back when two checks pass", () => {
    const down = after([[0, refused]]);
    assert.equal(standingOf(down, 0), "down");
    const once = nextHealth(down, passed, 1);
    assert.equal(standingOf(once, 1), "down");
    assert.equal(standingOf(nextHealth(once, passed, 2), 2), "ready");
    const between = nextHealth(nextHealth(once, failedCheck, 2), passed, 3);
    assert.equal(standingOf(between, 3), "down");
  });

  test("comes back as if nothing had been", () => {
    const ill = after([
      [0, bad],
      [1, bad],
      [2, bad],
      [3, failed],
      [4, refused],
      [5, passed],
      [6, passed],
    ]);
    assert.deepEqual({ ...ill, passedChecks: 0 }, freshHealth(6));
  });
});

describe("failures of a server", () => {
  test("put it out when they are three incidents within half a minute", () => {
    const two = after([
      [0, failed],
      [2_000, failed],
    ]);
    assert.equal(standingOf(two, 2_000), "ready");
    assert.equal(standingOf(nextHealth(two, failed, 4_000), 4_000), "out");
    const slow = after([
      [0, failed],
      [20_000, failed],
      [40_000, failed],
    ]);
    assert.equal(standingOf(slow, 40_000), "ready");
  });

  test("are one incident when they come together, however many", () => {
    const burst = Array.from({ length: 100 }, (_, n) => [n * 9, failed] as const);
    assert.equal(standingOf(after(burst), 900), "ready");
  });
});

describe("bad answers", () => {
  const five = [0, 1, 2, 3, 4].map((at) => [at, bad] as const);

  test("put a server out when they are five in a row", () => {
    assert.equal(standingOf(after(five.slice(1)), 4), "ready");
    assert.equal(standingOf(after(five), 4), "out");
    assert.equal(standingOf(after([...five.slice(1), [5, answered], [6, bad]]), 6), "ready");
  });

  test("do not put it out while no other server gives better ones", () => {
    const alone = { kind: "bad-answer", othersAnsweredAt: -1 } as const;
    const many = Array.from({ length: 50 }, (_, at) => [at, alone] as const);
    assert.equal(standingOf(after(many), 50), "ready");
  });

  test("are forgiven when all servers give them", () => {
    const out = after(five);
    const pardoned = nextHealth(out, { kind: "pardoned" }, 5);
    assert.equal(standingOf(pardoned, 5), "ready");
    assert.equal(standingOf(nextHealth(pardoned, bad, 6), 6), "out");
  });
});

describe("a server that was put out", () => {
  const out = after([0, 1, 2, 3, 4].map((at) => [at, bad] as const));

  test("gets a trial after a second, and is ready again when it passes", () => {
    assert.equal(standingOf(out, 1_003), "out");
    assert.equal(standingOf(out, 1_004), "trial");
    assert.equal(standingOf(nextHealth(out, answered, 1_500), 1_500), "ready");
  });

  test("stays out twice as long after each trial that fails, up to half a minute", () => {
    let health = out;
    let now = 4;
    const waits: number[] = [];
    for (let n = 0; n < 8; n++) {
      const until = health.outUntil ?? 0;
      waits.push(until - now);
      now = until;
      assert.equal(standingOf(health, now), "trial");
      health = nextHealth(health, n % 2 === 0 ? bad : failed, now);
      assert.equal(standingOf(health, now), "out");
    }
    assert.deepEqual(waits, [1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000, 30_000]);
  });

  test("is not let in by an answer to a request that it had before", () => {
    assert.equal(standingOf(nextHealth(out, answered, 500), 500), "out");
  });

  test("starts anew after a trial that it passed", () => {
    const back = nextHealth(out, answered, 2_000);
    const again = [1, 2, 3, 4, 5].reduce((health, n) => nextHealth(health, bad, 3_000 + n), back);
    assert.equal((again.outUntil ?? 0) - 3_005, 1_000);
  });
});

describe("a server that asks for time", () => {
  test("is left alone for longer each time, until it answers", () => {
    const busy = { kind: "busy", forMs: 0 } as const;
    const once = after([[0, busy]]);
    assert.deepEqual([standingOf(once, 199), standingOf(once, 200)], ["busy", "ready"]);
    const twice = nextHealth(once, busy, 200);
    assert.deepEqual([standingOf(twice, 599), standingOf(twice, 600)], ["busy", "ready"]);
    assert.equal(standingOf(nextHealth(twice, answered, 300), 300), "ready");
  });

  test("is left alone for as long as it says", () => {
    const busy = after([[0, { kind: "busy", forMs: 7_000 }]]);
    assert.deepEqual([standingOf(busy, 6_999), standingOf(busy, 7_000)], ["busy", "ready"]);
  });
});

describe("a frozen server", () => {
  const failing = after([
    [1_000, passed],
    [3_000, failedCheck],
    [5_000, failedCheck],
  ]);

  test("is one whose checks fail and that has said nothing for long", () => {
    const since = { answeredAt: 0, takeBackMs: 30_000 };
    assert.equal(isFrozen(failing, { ...since, now: 30_999 }), false);
    assert.equal(isFrozen(failing, { ...since, now: 31_000 }), true);
  });

  test("is none as long as it answers requests", () => {
    assert.equal(isFrozen(failing, { answeredAt: 20_000, takeBackMs: 30_000, now: 40_000 }), false);
  });

  test("is none after a single check that failed", () => {
    const once = after([
      [1_000, passed],
      [3_000, failedCheck],
    ]);
    assert.equal(isFrozen(once, { answeredAt: 0, takeBackMs: 30_000, now: 99_000 }), false);
  });
});

test("whatever happens to a server, two passed checks and a good answer make it ready in the end", () => {
  const event = fc.constantFrom<HealthEvent>(
    passed,
    failedCheck,
    refused,
    answered,
    failed,
    bad,
    { kind: "pardoned" },
    { kind: "busy", forMs: 3_000 },
  );
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.nat(5_000), event), { maxLength: 40 }), (steps) => {
      let now = 0;
      let health = freshHealth(0);
      for (const [ms, next] of steps) {
        now += ms;
        health = nextHealth(health, next, now);
        assert.ok(health.badAnswers >= 0 && health.outs >= 0);
      }
      now += 60_000;
      for (const next of [passed, passed, answered]) health = nextHealth(health, next, now);
      assert.equal(standingOf(health, now), "ready");
    }),
  );
});
