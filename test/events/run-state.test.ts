import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import type { EventEnvelope } from "../../src/events/event.ts";
import {
  leafStates,
  type RunFacts,
  runStateOf,
  type UnitFacts,
} from "../../src/events/run-state.ts";
import { addEvent, requestRate, type WriterState } from "../../src/events/writer-state.ts";
import type { LeafId } from "../../src/run/ids.ts";
import { leafAt, syntheticPlan, unitAt } from "../support/synthetic-run.ts";

const plan = syntheticPlan({ directory: "/nowhere", units: 2, leaves: 4 });

const nothing: UnitFacts = {
  coverage: { done: new Set(), invalid: new Set() },
  dead: new Map(),
  held: [],
  stopped: undefined,
};

function leaves(...numbers: number[]): Set<LeafId> {
  return new Set(numbers.map(leafAt));
}

function facts(unit: Partial<UnitFacts>, more: Partial<RunFacts> = {}): RunFacts {
  const units = new Map([[unitAt(0), { ...nothing, ...unit }]]);
  return { plan, units, writers: [], gone: new Set(), ...more };
}

/** Writes events of one writer, a second apart. */
function journalOf(writer: string, startSecond = 0) {
  const events: EventEnvelope[] = [];
  return {
    events,
    add(type: string, fields: Record<string, unknown> = {}, pauseS = 1) {
      const last = events.at(-1);
      const atMs = last === undefined ? startSecond * 1_000 : Date.parse(last.at) + pauseS * 1_000;
      events.push({
        schema_version: 1,
        type,
        run: "r",
        node: `node-of-${writer}`,
        writer,
        seq: events.length + 1,
        at: new Date(atMs).toISOString(),
        ...fields,
      });
    },
  };
}

function fold(events: Iterable<EventEnvelope>): Map<string, WriterState> {
  const writers = new Map<string, WriterState>();
  for (const event of events) addEvent(writers, event);
  return writers;
}

const agentStarted = { pid: 7, owner: "owner-a", slots: 2, eval_hive_version: "0.1.0" };
const subject = { unit: unitAt(0), batch: "b0", attempt: 1, job: "local" };
const leafDone = { n_samples: 10, n_requests: 40, load_s: 1, requests_s: 4, total_s: 6 };

describe("the state of a unit", () => {
  const stateOf = (unit: Partial<UnitFacts>, more?: Partial<RunFacts>) =>
    runStateOf(facts(unit, more)).units[0];

  test("is completed only when every leaf has a valid result", () => {
    const all = { done: leaves(0, 1, 2, 3), invalid: leaves() };
    assert.equal(stateOf({ coverage: all })?.state, "completed");
    const one = { done: leaves(0, 1, 2), invalid: leaves(3) };
    assert.equal(stateOf({ coverage: one })?.state, "failed");
  });

  test("is running while an agent holds a batch with open leaves", () => {
    const held = [{ batch: "b", owner: "o", leaves: [leafAt(0), leafAt(1)] }];
    const coverage = { done: leaves(0), invalid: leaves() };
    const unit = stateOf({ held, coverage });
    assert.deepEqual(
      [unit?.state, unit?.leaves],
      ["running", { total: 4, done: 1, invalid: 0, dead: 0, open: 3, running: 1 }],
    );
    assert.equal(
      stateOf({ held, coverage: { done: leaves(0, 1), invalid: leaves() } })?.state,
      "pending",
    );
  });

  test("is not started until something was done or tried", () => {
    assert.equal(stateOf({})?.state, "not_started");
    const journal = journalOf("w");
    journal.add("unit.started", { unit: unitAt(0), generation: 0 });
    assert.equal(stateOf({}, { writers: fold(journal.events).values() })?.state, "pending");
  });

  test("is failed when it was given up with work left, and when only dead leaves are left", () => {
    const stopped = { reason: "4 leaves failed alike", class: "missing-module" };
    assert.deepEqual(
      [stateOf({ stopped })?.state, stateOf({ stopped })?.stopped],
      ["failed", stopped],
    );
    const done = { done: leaves(0, 1, 2, 3), invalid: leaves() };
    assert.equal(stateOf({ stopped, coverage: done })?.state, "completed");
    const trouble = { strikes: 3, class: "metric", message: "ZeroDivisionError" };
    const dead = new Map([[leafAt(3), trouble]]);
    const unit = stateOf({ dead, coverage: { done: leaves(0, 1, 2), invalid: leaves() } });
    assert.equal(unit?.state, "failed");
    assert.deepEqual(unit?.dead, [{ leaf: leafAt(3), ...trouble }]);
  });

  test("counts a leaf once, and a leaf file wins over strikes", () => {
    const number = fc.integer({ min: 0, max: 3 });
    const some = fc.uniqueArray(number);
    fc.assert(
      fc.property(some, some, some, some, (done, invalid, dead, held) => {
        const unit: UnitFacts = {
          coverage: { done: leaves(...done), invalid: leaves(...invalid) },
          dead: new Map(dead.map((n) => [leafAt(n), { strikes: 3, class: null, message: null }])),
          held: held.map((n) => ({ batch: `b${n}`, owner: "o", leaves: [leafAt(n)] })),
          stopped: undefined,
        };
        const counts = runStateOf(facts(unit)).units[0]?.leaves;
        assert.ok(counts);
        assert.equal(counts.done + counts.invalid + counts.dead + counts.open, counts.total);
        assert.equal(counts.done, new Set(done).size);
        assert.ok(counts.running <= counts.open);
        const first = plan.units[0];
        assert.ok(first);
        assert.equal(leafStates(plan, first, unit).size, 4);
      }),
    );
  });
});

describe("what agents are at", () => {
  test("names the leaf of each slot with its progress, until it is over", () => {
    const journal = journalOf("a");
    journal.add("agent.started", agentStarted);
    journal.add("server.starting", { server: 0, start_attempt: 1, port: 1, log: "l" });
    journal.add("server.healthy", { server: 0, start_attempt: 1, port: 1, start_s: 1 });
    journal.add("batch.leased", { ...subject, leaves: [leafAt(0)] });
    journal.add("leaf.started", { ...subject, slot: 1, leaf: leafAt(0) });
    journal.add("batch.leased", { ...subject, batch: "b1", leaves: [leafAt(1)] });
    const progress = { phase: "requests", done: 12, total: 40 };
    journal.add("batch.progress", { ...subject, leaf: leafAt(0), ...progress });
    const [agent] = runStateOf(facts({}, { writers: fold(journal.events).values() })).agents;
    assert.deepEqual(agent?.at_hand, [
      {
        slot: 1,
        unit: unitAt(0),
        batch: "b0",
        leaf: leafAt(0),
        phase: "requests",
        done: 12,
        total: 40,
        not_journalled: {},
      },
      {
        slot: null,
        unit: unitAt(0),
        batch: "b1",
        leaf: null,
        phase: null,
        done: 0,
        total: 0,
        not_journalled: {},
      },
    ]);
    assert.deepEqual(
      agent?.servers.map(({ state }) => state),
      ["healthy"],
    );
    const served = { answered: 25, replayed: 15 };
    journal.add("leaf.done", { ...subject, leaf: leafAt(0), ...leafDone, served });
    journal.add("batch.ended", {
      ...subject,
      prompt_tokens: 100,
      completion_tokens: null,
    });
    journal.add("batch.ended", { ...subject, batch: "b1" });
    const after = runStateOf(facts({}, { writers: fold(journal.events).values() }));
    assert.deepEqual(after.agents[0]?.at_hand, []);
    assert.deepEqual(
      [after.requests, after.replayed, after.prompt_tokens, after.completion_tokens],
      [40, 15, 100, null],
    );
    journal.add("agent.ended", { reason: "complete" });
    const ended = runStateOf(facts({}, { writers: fold(journal.events).values() })).agents[0];
    assert.deepEqual([ended?.state, ended?.reason, ended?.servers], ["ended", "complete", []]);
  });

  test("knows whose answers are not kept, also of a leaf that is still to begin", () => {
    const journal = journalOf("a");
    journal.add("agent.started", agentStarted);
    journal.add("batch.leased", { ...subject, leaves: [leafAt(0), leafAt(1)] });
    journal.add("leaf.started", { ...subject, leaf: leafAt(0) });
    journal.add("journal.off", { ...subject, leaf: leafAt(1), reason: "no room" });
    journal.add("leaf.done", { ...subject, leaf: leafAt(0), ...leafDone });
    journal.add("leaf.started", { ...subject, leaf: leafAt(1) });
    const state = runStateOf(facts({}, { writers: fold(journal.events).values() }));
    assert.deepEqual(state.agents[0]?.at_hand[0]?.not_journalled, { [leafAt(1)]: "no room" });
  });

  test("an agent that ended without a word is gone, and holds nothing", () => {
    const journal = journalOf("a");
    journal.add("agent.started", agentStarted);
    journal.add("batch.leased", { ...subject, leaves: [leafAt(0)] });
    const writers = [...fold(journal.events).values()];
    const [agent] = runStateOf(facts({}, { writers, gone: new Set(["owner-a"]) })).agents;
    assert.deepEqual([agent?.state, agent?.at_hand], ["gone", []]);
  });

  test("requests per second and the rest come from each writer's own clock", () => {
    const states = [0, 1_000_000].map((startSecond, n) => {
      const journal = journalOf(`w${n}`, startSecond);
      journal.add("agent.started", { ...agentStarted, owner: `o${n}`, slots: 1 });
      journal.add("batch.leased", subject);
      for (let leaf = 0; leaf < 3; leaf++) {
        journal.add("leaf.started", { ...subject, slot: 0, leaf: leafAt(leaf) }, 0);
        for (let done = 0; done <= 40; done += 10) {
          const progress = { phase: "requests", done, total: 40 };
          journal.add("batch.progress", { ...subject, leaf: leafAt(leaf), ...progress }, 5);
        }
        journal.add("leaf.done", { ...subject, leaf: leafAt(leaf), ...leafDone, total_s: 25 }, 5);
      }
      return [...fold(journal.events).values()];
    });
    for (const [state] of states) {
      assert.ok(state);
      // 40 requests in 30 s; the first is known 5 s after the start.
      const rate = requestRate(state);
      assert.ok(rate !== undefined && Math.abs(rate - 120 / 85) < 0.01, String(rate));
    }
    const state = runStateOf(facts({}, { writers: states.flat() }));
    assert.ok(Math.abs((state.requests_per_s ?? 0) - 240 / 85) < 0.02);
    assert.equal(state.eta_s, (8 * 25) / 2);
  });

  test("a writer that starts a leaf again never counts backwards", () => {
    const step = fc.oneof(
      fc.record({ kind: fc.constant("progress" as const), done: fc.nat(100) }),
      fc.record({ kind: fc.constantFrom("started" as const, "failed" as const, "ended" as const) }),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
        const journal = journalOf("w");
        journal.add("batch.leased", subject);
        let asked = 0;
        for (const one of steps) {
          const about = { ...subject, leaf: leafAt(0) };
          if (one.kind === "progress") {
            asked = Math.max(asked, one.done);
            const progress = { phase: "requests", done: asked, total: 100 };
            journal.add("batch.progress", { ...about, ...progress });
            continue;
          }
          asked = 0;
          if (one.kind === "started") journal.add("leaf.started", { ...about, slot: 0 });
          if (one.kind === "failed") journal.add("leaf.failed", about);
          if (one.kind === "ended") {
            journal.add("batch.ended", subject);
            journal.add("batch.leased", subject);
          }
        }
        const samples = [...fold(journal.events).values()].flatMap((state) => state.samples);
        samples.forEach(([, answered], at) => {
          assert.ok(answered >= (samples[at - 1]?.[1] ?? 0));
        });
      }),
    );
  });
});

describe("the fold", () => {
  const kinds = [
    "agent.started",
    "agent.draining",
    "agent.ended",
    "server.healthy",
    "batch.leased",
    "batch.progress",
    "batch.ended",
    "leaf.started",
    "leaf.done",
    "leaf.invalid",
    "leaf.failed",
    "unit.failed",
    "moon.landed",
  ];
  const bodies = fc.record(
    {
      unit: fc.constantFrom(unitAt(0), unitAt(1), "no-such-unit"),
      batch: fc.constantFrom("b0", "b1"),
      leaf: fc.constantFrom(leafAt(0), leafAt(1), "no-such-leaf"),
      slot: fc.nat(2),
      server: fc.nat(2),
      owner: fc.constantFrom("o0", "o1"),
      phase: fc.constantFrom("loading", "requests", 7),
      done: fc.oneof(fc.nat(100), fc.constant("many")),
      n_requests: fc.oneof(fc.nat(100), fc.constant(null)),
      total_s: fc.nat(100),
      prompt_tokens: fc.oneof(fc.nat(100), fc.constant(null)),
      reason: fc.string(),
    },
    { requiredKeys: [] },
  );
  const journals = fc
    .array(fc.array(fc.tuple(fc.constantFrom(...kinds), bodies), { maxLength: 25 }), {
      maxLength: 4,
    })
    .map((all) =>
      all.map((events, n) => {
        const journal = journalOf(`w${n}`, n * 3);
        for (const [type, body] of events) journal.add(type, body);
        return journal.events;
      }),
    );

  test("does not care in which order the writers' events come, nor in how many looks", () => {
    fc.assert(
      fc.property(journals, fc.infiniteStream(fc.nat()), (all, dice) => {
        const one = fold(all.flat());
        const queues = all.map((events) => [...events]);
        const mixed: EventEnvelope[] = [];
        while (queues.some((queue) => queue.length > 0)) {
          const left = queues.filter((queue) => queue.length > 0);
          const { value } = dice.next();
          const event = left[value % left.length]?.shift();
          if (event !== undefined) mixed.push(event);
        }
        // A look's states go through the cache between any two events.
        let other = new Map<string, WriterState>();
        for (const event of mixed) {
          addEvent(other, event);
          other = new Map(JSON.parse(JSON.stringify([...other])) as [string, WriterState][]);
        }
        const more = { gone: new Set(["o1"]) };
        assert.deepEqual(
          runStateOf(facts({}, { ...more, writers: other.values() })),
          runStateOf(facts({}, { ...more, writers: one.values() })),
        );
      }),
    );
  });

  test("takes whatever fields another version has written", () => {
    fc.assert(
      fc.property(
        fc.constantFrom(...kinds),
        fc.dictionary(fc.string(), fc.jsonValue()),
        (type, body) => {
          const journal = journalOf("w");
          journal.add("agent.started", agentStarted);
          journal.add("batch.leased", subject);
          const { unit: _u, batch: _b, leaf: _l, ...rest } = body;
          journal.add(type, {
            ...subject,
            ...rest,
            type,
            at: "2026-11-24T04:00:00.000Z",
            writer: "w",
          });
          runStateOf(facts({}, { writers: fold(journal.events).values() }));
        },
      ),
    );
  });
});
