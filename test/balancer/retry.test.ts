import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { defaultLimits } from "../../src/balancer/limits.ts";
import {
  type Circumstances,
  type Decision,
  decideRetry,
  type Failure,
  noTries,
} from "../../src/balancer/retry.ts";

const calm: Circumstances = {
  othersLeft: true,
  replayable: true,
  otherDeaths: 0,
  unheard: false,
  now: 0,
  random: 0.5,
};

/** What is decided after each of these failures. */
function decideAll(
  failures: readonly Failure[],
  circumstances: Partial<Circumstances> = {},
): Decision[] {
  let tries = noTries;
  return failures.map((failure) => {
    const decided = decideRetry(tries, failure, { ...calm, ...circumstances }, defaultLimits);
    tries = decided.tries;
    return decided.decision;
  });
}

const kinds = (decisions: readonly Decision[]): string[] => decisions.map(({ kind }) => kind);
const pauses = (decisions: readonly Decision[]): (number | undefined)[] =>
  decisions.map((decision) => (decision.kind === "again" ? decision.pauseMs : undefined));
const times = (n: number, failure: Failure): Failure[] => Array<Failure>(n).fill(failure);

const busy: Failure = { kind: "busy", retryAfterMs: 0 };

describe("a request is sent again", () => {
  test("as often as nobody listens: it has never been anywhere", () => {
    const decisions = decideAll(times(1_000, { kind: "unreachable" }), { othersLeft: false });
    assert.ok(pauses(decisions).every((ms) => ms === 0));
  });

  test("up to six times when it is lost on its way", () => {
    const decisions = decideAll(times(6, { kind: "lost" }));
    assert.deepEqual(kinds(decisions), [..."again ".repeat(5).trim().split(" "), "refuse"]);
  });

  test("without being counted when its connection had been closed before, but not for ever", () => {
    const decisions = decideAll([...times(3, { kind: "stale" }), ...times(5, { kind: "lost" })]);
    assert.ok(decisions.every(({ kind }) => kind === "again"));
  });

  test("to two more servers after a 500, then the answer is passed on", () => {
    const decisions = decideAll(times(3, { kind: "server-error" }));
    assert.deepEqual(kinds(decisions), ["again", "again", "pass"]);
  });

  test("up to eight times after a 500 of the few that are up, while others may come back", () => {
    const decisions = decideAll(times(8, { kind: "server-error" }), {
      unheard: true,
      othersLeft: false,
    });
    assert.deepEqual(kinds(decisions), [..."again ".repeat(7).trim().split(" "), "pass"]);
    assert.ok(pauses(decisions.slice(0, -1)).every((ms) => (ms ?? 0) > 0));
  });

  test("three times in all after time-outs, and after servers froze", () => {
    for (const failure of [
      { kind: "timeout", afterMs: 1_500 },
      { kind: "taken-back" },
    ] satisfies Failure[]) {
      const decisions = decideAll(times(3, failure));
      assert.deepEqual(kinds(decisions), ["again", "again", "refuse"]);
      const last = decisions[2];
      assert.equal(last?.kind === "refuse" && last.status, 504);
    }
  });

  test("at once as long as there are others, then after pauses that grow", () => {
    assert.deepEqual(pauses(decideAll(times(2, { kind: "lost" }))), [0, 0]);
    const alone = decideAll(times(5, { kind: "lost" }), { othersLeft: false });
    assert.deepEqual(pauses(alone), [100, 200, 400, 800, 1_600]);
  });

  test("after pauses of which no two are alike", () => {
    const [least] = pauses(decideAll([{ kind: "lost" }], { othersLeft: false, random: 0 }));
    const [most] = pauses(decideAll([{ kind: "lost" }], { othersLeft: false, random: 1 }));
    assert.deepEqual([least, most], [75, 125]);
  });

  test("never, once a part of it is gone; an answer that came is passed on", () => {
    const once = (failure: Failure) => decideAll([failure], { replayable: false })[0]?.kind;
    assert.equal(once({ kind: "lost" }), "refuse");
    assert.equal(once({ kind: "died" }), "refuse");
    assert.equal(once({ kind: "server-error" }), "pass");
    assert.equal(once(busy), "pass");
  });
});

describe("a request whose servers ask for time", () => {
  test("goes elsewhere at once, or waits for longer each time", () => {
    assert.deepEqual(pauses(decideAll([busy])), [0]);
    const alone = pauses(decideAll(times(7, busy), { othersLeft: false }));
    assert.deepEqual(alone, [200, 400, 800, 1_600, 3_200, 5_000, 5_000]);
  });

  test("waits for as long as they say, but not for hours", () => {
    const wait = (retryAfterMs: number) =>
      pauses(decideAll([{ kind: "busy", retryAfterMs }], { othersLeft: false }))[0];
    assert.equal(wait(3_000), 3_000);
    assert.equal(wait(10_000_000), 60_000);
  });

  test("gets their answer after ten minutes of nothing else", () => {
    const decide = (now: number, tries = noTries) =>
      decideRetry(tries, busy, { ...calm, othersLeft: false, now }, defaultLimits);
    const first = decide(1_000);
    assert.equal(decide(600_999, first.tries).decision.kind, "again");
    assert.equal(decide(601_000, first.tries).decision.kind, "pass");
    const between = decideRetry(first.tries, { kind: "lost" }, calm, defaultLimits);
    assert.equal(decide(601_000, between.tries).decision.kind, "again");
  });
});

describe("a request under which servers die", () => {
  test("is sent again after the first death, and detained after the second", () => {
    assert.deepEqual(kinds(decideAll(times(2, { kind: "died" }))), ["again", "detain"]);
  });

  test("is sent on as often as others died without it, up to four deaths", () => {
    assert.deepEqual(kinds(decideAll(times(3, { kind: "died" }), { otherDeaths: 1 })), [
      ...["again", "again"],
      "detain",
    ]);
    const many = decideAll(times(4, { kind: "died" }), { otherDeaths: 9 });
    assert.deepEqual(kinds(many), ["again", "again", "again", "refuse"]);
  });
});

test("whatever fails, a request comes to an end unless it waits for servers", () => {
  const failure = fc.constantFrom<Failure>(
    { kind: "stale" },
    { kind: "lost" },
    { kind: "died" },
    { kind: "taken-back" },
    { kind: "timeout", afterMs: 1 },
    { kind: "server-error" },
  );
  fc.assert(
    fc.property(fc.array(failure, { minLength: 25, maxLength: 25 }), (failures) => {
      const decisions = decideAll(failures, { otherDeaths: 9 });
      assert.ok(decisions.some(({ kind }) => kind !== "again"));
    }),
  );
});
