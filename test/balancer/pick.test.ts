import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import type { Standing } from "../../src/balancer/health.ts";
import { type Candidate, pick } from "../../src/balancer/pick.ts";

interface Named extends Candidate {
  readonly name: string;
}

function server(name: string, changes: Partial<Candidate> = {}): Named {
  return {
    name,
    standing: "ready",
    inFlight: 0,
    weight: 1,
    maxInFlight: Number.POSITIVE_INFINITY,
    suspects: 0,
    doubted: false,
    ...changes,
  };
}

const ordinary = { tried: new Set<Named>(), suspect: false };

function pickName(
  servers: readonly Named[],
  wish: Partial<Parameters<typeof pick<Named>>[1]> = {},
  turn = 0,
): string | undefined {
  return pick(servers, { ...ordinary, ...wish }, turn)?.name;
}

/** How often each is picked when every request stays. */
function fill(servers: readonly Named[], requests: number): number[] {
  const load = servers.map((one) => ({ ...one }));
  for (let turn = 0; turn < requests; turn++) {
    const picked = pick(load, ordinary as never, turn);
    if (picked !== undefined) picked.inFlight += 1;
  }
  return load.map(({ inFlight }) => inFlight);
}

describe("a request goes", () => {
  test("where the fewest are in flight", () => {
    assert.equal(pickName([server("a", { inFlight: 3 }), server("b", { inFlight: 2 })]), "b");
  });

  test("to each of equals in turn", () => {
    const servers = [server("a"), server("b"), server("c")];
    const picked = [0, 1, 2, 3].map((turn) => pickName(servers, {}, turn));
    assert.deepEqual(picked, ["a", "b", "c", "a"]);
  });

  test("to servers in proportion to their weights", () => {
    assert.deepEqual(fill([server("a", { weight: 3 }), server("b")], 400), [300, 100]);
  });

  test("nowhere when all have as many as they may", () => {
    const full = server("a", { inFlight: 2, maxInFlight: 2 });
    assert.equal(pickName([full]), undefined);
    assert.deepEqual(
      fill([server("a", { maxInFlight: 2 }), server("b", { maxInFlight: 3 })], 9),
      [2, 3],
    );
  });

  test("nowhere when there is no server, or none that is up", () => {
    assert.equal(pickName([]), undefined);
    assert.equal(pickName([server("a", { standing: "down" })]), undefined);
  });

  test("rather to a server that has not failed it, however much is in flight there", () => {
    const [a, b] = [server("a"), server("b", { inFlight: 50 })];
    assert.equal(pickName([a, b], { tried: new Set([a]) }), "b");
    assert.equal(pickName([a, b], { tried: new Set([a, b]) }), "a");
  });

  test("rather to a server that has not asked for time", () => {
    const [a, b] = [server("a", { standing: "busy" }), server("b", { inFlight: 9 })];
    assert.equal(pickName([a, b]), "b");
    assert.equal(pickName([a]), "a");
  });

  test("to a server that was put out only when no other one can be asked", () => {
    const [a, b] = [server("a", { standing: "out" }), server("b", { inFlight: 99 })];
    assert.equal(pickName([a, b]), "b");
    assert.equal(pickName([a, { ...b, standing: "down" }]), "a");
    assert.equal(pickName([a, b], { tried: new Set([b]) }), "b");
  });

  test("alone to a server on trial", () => {
    const others = server("b", { inFlight: 9 });
    assert.equal(pickName([server("a", { standing: "trial" }), others]), "a");
    assert.equal(pickName([server("a", { standing: "trial", inFlight: 1 }), others]), "b");
    assert.equal(pickName([server("a", { standing: "trial", inFlight: 1 })]), "a");
  });

  test("not to a second-best server while the best one is full: it waits", () => {
    const [a, b] = [server("a", { inFlight: 1, maxInFlight: 1 }), server("b", { standing: "out" })];
    assert.equal(pickName([a, b]), undefined);
  });
});

describe("a request that may have killed a server", () => {
  test("is alone of its kind at its next one", () => {
    const [a, b] = [server("a", { suspects: 1 }), server("b", { inFlight: 40 })];
    assert.equal(pickName([a, b], { suspect: true }), "b");
    assert.equal(pickName([a, { ...b, suspects: 1 }], { suspect: true }), undefined);
  });

  test("does not go where it is not known whether the server lives", () => {
    const doubted = server("a", { doubted: true });
    assert.equal(pickName([doubted], { suspect: true }), undefined);
    assert.equal(pickName([doubted]), "a");
    assert.equal(pickName([doubted, server("b", { inFlight: 9 })]), "b");
  });

  test("does not keep others from that server", () => {
    assert.equal(pickName([server("a", { suspects: 1 }), server("b", { inFlight: 1 })]), "a");
  });
});

describe("a server that has seen the prompt", () => {
  test("goes first as long as it has hardly more in flight than the least loaded one", () => {
    const a = server("a", { inFlight: 2 });
    const b = server("b");
    assert.equal(pickName([a, b], { seenBy: new Set([a]) }), "a");
    const laden = server("a", { inFlight: 3 });
    assert.equal(pickName([laden, b], { seenBy: new Set([laden]) }), "b");
    const many = server("a", { inFlight: 50 });
    const few = server("b", { inFlight: 40 });
    assert.equal(pickName([many, few], { seenBy: new Set([many]) }), "a");
  });

  test("is the least loaded of those that have", () => {
    const [a, b, c] = [server("a", { inFlight: 2 }), server("b", { inFlight: 1 }), server("c")];
    assert.equal(pickName([a, b, c], { seenBy: new Set([a, b]) }), "b");
  });

  test("does not go first when it has failed the request, is full, out or gone", () => {
    const other = server("b");
    for (const changes of [
      { standing: "out" },
      { standing: "down" },
      { inFlight: 1, maxInFlight: 1 },
    ] satisfies Partial<Candidate>[]) {
      const a = server("a", changes);
      assert.equal(pickName([a, other], { seenBy: new Set([a]) }), "b");
    }
    const a = server("a");
    assert.equal(pickName([a, other], { seenBy: new Set([a]), tried: new Set([a]) }), "b");
    assert.equal(pickName([other], { seenBy: new Set([a]) }), "b");
  });
});

const anyServer = fc.record({
  name: fc.string(),
  standing: fc.constantFrom<Standing>("ready", "busy", "trial", "out", "down"),
  inFlight: fc.nat(20),
  weight: fc.integer({ min: 1, max: 4 }),
  maxInFlight: fc.oneof(fc.constant(Number.POSITIVE_INFINITY), fc.integer({ min: 1, max: 20 })),
  suspects: fc.nat(1),
  doubted: fc.boolean(),
});

test("whatever the servers, the choice has room, is up, and is refused only with a reason", () => {
  fc.assert(
    fc.property(
      fc.array(anyServer, { maxLength: 6 }),
      fc.array(fc.boolean(), { minLength: 6, maxLength: 6 }),
      fc.boolean(),
      fc.nat(10),
      (servers, tried, suspect, turn) => {
        const wish = { tried: new Set(servers.filter((_, n) => tried[n])), suspect };
        const picked = pick(servers, wish, turn);
        const possible = servers.filter(
          ({ standing, inFlight, maxInFlight, suspects, doubted }) =>
            standing !== "down" &&
            inFlight < maxInFlight &&
            !(suspect && (suspects > 0 || doubted)),
        );
        if (picked !== undefined) assert.ok(possible.includes(picked));
        const isFree = ({ standing, inFlight, doubted }: Candidate) =>
          standing === "ready" && inFlight === 0 && !doubted;
        if (possible.some((one) => isFree(one) && !wish.tried.has(one))) assert.ok(picked);
      },
    ),
    { numRuns: 1_000 },
  );
});
