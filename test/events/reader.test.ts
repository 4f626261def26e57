import assert from "node:assert/strict";
import { appendFile, mkdir, readdir, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import type { EventEnvelope } from "../../src/events/event.ts";
import { openJournal } from "../../src/events/journal.ts";
import { followEvents, type Positions, readEvents } from "../../src/events/reader.ts";
import { RunLayout } from "../../src/run/layout.ts";
import { temporaryDirectory } from "../support/temporary.ts";

function line(seq: number, more: Record<string, unknown> = {}): string {
  const event = { schema_version: 1, type: "unit.started", run: "r", node: "n", writer: "w", seq };
  return `${JSON.stringify({ ...event, at: "2026-11-24T04:00:00.000Z", ...more })}\n`;
}

async function read(directory: string, positions: Positions): Promise<EventEnvelope[]> {
  const events: EventEnvelope[] = [];
  await readEvents(directory, positions, (event) => events.push(event));
  return events;
}

test("a second look gives only what is new, from every writer", async () => {
  await using scratch = await temporaryDirectory();
  const positions: Positions = new Map();
  assert.deepEqual(await read(join(scratch.path, "none"), positions), []);
  await writeFile(join(scratch.path, "a.jsonl"), line(1, { writer: "a" }));
  assert.equal((await read(scratch.path, positions)).length, 1);
  assert.equal((await read(scratch.path, positions)).length, 0);
  await appendFile(join(scratch.path, "a.jsonl"), line(2, { writer: "a" }));
  await writeFile(join(scratch.path, "b.jsonl"), line(1, { writer: "b" }));
  const found = (await read(scratch.path, positions)).map(({ writer, seq }) => writer + seq);
  assert.deepEqual(found.sort(), ["a2", "b1"]);
});

test("a torn last line waits until it is complete, wherever it is torn", async () => {
  await using scratch = await temporaryDirectory();
  const path = join(scratch.path, "w.jsonl");
  const positions: Positions = new Map();
  const text = line(1, { unit: "ü".repeat(5) });
  const bytes = Buffer.from(text);
  await writeFile(path, "");
  for (let at = 0; at < bytes.length; at++) {
    assert.deepEqual(await read(scratch.path, positions), [], `torn after ${at} bytes`);
    await appendFile(path, bytes.subarray(at, at + 1));
  }
  assert.deepEqual(await read(scratch.path, positions), [JSON.parse(text)]);
  assert.deepEqual(positions.get("w"), { offset: bytes.length, seq: 1, gaps: [], damaged: 0 });
});

test("types of later versions are passed on; what is no event is counted, and stops nothing", async () => {
  await using scratch = await temporaryDirectory();
  const positions: Positions = new Map();
  const future = line(2, { type: "moon.landed", schema_version: 2, crew: ["a"] });
  const noise = `torn {"sc\n\0\0\0\0\n[1]\nnull\n${JSON.stringify({ type: "x", seq: 1 })}\n\n`;
  await writeFile(join(scratch.path, "w.jsonl"), line(1) + noise + future);
  await writeFile(join(scratch.path, ".w.jsonl.tmp"), "no journal");
  await writeFile(join(scratch.path, "README"), "no journal");
  const events = await read(scratch.path, positions);
  assert.deepEqual(
    events.map(({ type }) => type),
    ["unit.started", "moon.landed"],
  );
  assert.deepEqual(events[1]?.["crew"], ["a"]);
  assert.equal(positions.get("w")?.damaged, 5);
});

test("missing numbers are reported until they turn up, and nothing is given twice", async () => {
  await using scratch = await temporaryDirectory();
  const path = join(scratch.path, "w.jsonl");
  const positions: Positions = new Map();
  await writeFile(path, line(1) + line(6) + line(6) + line(1));
  assert.deepEqual(
    (await read(scratch.path, positions)).map(({ seq }) => seq),
    [1, 6],
  );
  assert.deepEqual(positions.get("w")?.gaps, [[2, 5]]);
  // A writer whose disk failed repeats what may be lost.
  await appendFile(path, line(3) + line(3) + line(5) + line(6) + line(7));
  assert.deepEqual(
    (await read(scratch.path, positions)).map(({ seq }) => seq),
    [3, 5, 7],
  );
  assert.deepEqual(positions.get("w")?.gaps, [
    [2, 2],
    [4, 4],
  ]);
});

test("a file that became shorter is read again without giving anything twice", async () => {
  await using scratch = await temporaryDirectory();
  const path = join(scratch.path, "w.jsonl");
  const positions: Positions = new Map();
  await writeFile(path, line(1) + line(2));
  await read(scratch.path, positions);
  await truncate(path, line(1).length);
  assert.deepEqual(await read(scratch.path, positions), []);
  await appendFile(path, line(2) + line(3));
  assert.deepEqual(
    (await read(scratch.path, positions)).map(({ seq }) => seq),
    [3],
  );
});

test("a journal of many megabytes is read to its end", async () => {
  await using scratch = await temporaryDirectory();
  const text = Array.from({ length: 900 }, (_, n) => line(n + 1, { unit: "é".repeat(4_000) }));
  await writeFile(join(scratch.path, "w.jsonl"), text.join(""));
  const positions: Positions = new Map();
  const events = await read(scratch.path, positions);
  assert.equal(events.length, 900);
  assert.deepEqual([positions.get("w")?.gaps, positions.get("w")?.damaged], [[], 0]);
});

test("a follower sees the events of other processes, and ends when it is told to", async () => {
  await using scratch = await temporaryDirectory();
  const layout = new RunLayout(scratch.path);
  await mkdir(layout.events);
  const stop = new AbortController();
  const seen: string[] = [];
  const following = (async () => {
    const options = { signal: stop.signal, pollMs: 5 };
    for await (const events of followEvents(layout.events, new Map(), options)) {
      seen.push(...events.map(({ type, seq }) => `${type} ${seq}`));
      if (seen.length === 2) stop.abort();
    }
  })();
  await using journal = await openJournal({ layout, runId: "r", node: "n" });
  await journal.publish("unit.started", { unit: "u" }, { generation: 0 });
  await journal.publish("unit.started", { unit: "u" }, { generation: 1 });
  await following;
  assert.deepEqual(seen, ["unit.started 1", "unit.started 2"]);
  assert.deepEqual(await readdir(scratch.path), ["events"]);
});
