import assert from "node:assert/strict";
import { open, readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as wait } from "node:timers/promises";
import type { Clock } from "../../src/base/clock.ts";
import { startGroup } from "../../src/base/spawn.ts";
import type { EventEnvelope } from "../../src/events/event.ts";
import { JournalError, type JournalFile, openJournal } from "../../src/events/journal.ts";
import { RunLayout } from "../../src/run/layout.ts";
import { ManualClock } from "../support/manual-clock.ts";
import { temporaryDirectory } from "../support/temporary.ts";
import { until } from "../support/until.ts";

const runId = "run-1";
const node = "test-node";
const started = { pid: 1, owner: "local-p1-0", slots: 2, eval_hive_version: "0.1.0" };

function parseLines(text: string): EventEnvelope[] {
  return text
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line) as EventEnvelope);
}

test("events are in the file, in order of the calls, when their promises resolve", async () => {
  await using scratch = await temporaryDirectory();
  const layout = new RunLayout(scratch.path);
  await using journal = await openJournal({ layout, runId, node });
  const published = Array.from({ length: 50 }, (_, n) =>
    journal.publish(
      "leaf.started",
      { unit: "m--main", leaf: `l${n}` },
      { slot: 0, fingerprint: "fp1:0" },
    ),
  );
  await Promise.all(published);
  const events = parseLines(await readFile(journal.path, "utf8"));
  assert.deepEqual(
    events.map(({ seq, leaf }) => [seq, leaf]),
    published.map((_, n) => [n + 1, `l${n}`]),
  );
  const { at, ...first } = events[0] as EventEnvelope;
  assert.match(at, /^\d{4}-\d\d-\d\dT.*Z$/);
  assert.deepEqual(first, {
    schema_version: 1,
    type: "leaf.started",
    run: runId,
    unit: "m--main",
    leaf: "l0",
    node,
    writer: journal.writer,
    seq: 1,
    slot: 0,
    fingerprint: "fp1:0",
  });
});

test("each process has a file of its own", async () => {
  await using scratch = await temporaryDirectory();
  const layout = new RunLayout(scratch.path);
  await using one = await openJournal({ layout, runId, node, role: "agent" });
  await using two = await openJournal({ layout, runId, node, role: "agent" });
  assert.notEqual(one.writer, two.writer);
  assert.equal((await readdir(layout.events)).length, 2);
  await assert.rejects(openJournal({ layout, runId, node, writer: one.writer }), JournalError);
});

test("a wrong event is a bug of the caller, and takes no number", async () => {
  await using scratch = await temporaryDirectory();
  await using journal = await openJournal({ layout: new RunLayout(scratch.path), runId, node });
  const { pid: _, ...incomplete } = started;
  await assert.rejects(
    journal.publish("agent.started", {}, incomplete as typeof started),
    (error) => error instanceof TypeError && /"agent.started": pid/.test(error.message),
  );
  await assert.rejects(
    journal.publish("agent.started", { unit: 7 as unknown as string }, started),
    TypeError,
  );
  await assert.rejects(journal.publish("nonsense" as "agent.started", {}, started), TypeError);
  await journal.publish("agent.started", {}, started);
  const events = parseLines(await readFile(journal.path, "utf8"));
  assert.deepEqual(
    events.map(({ seq, type }) => [seq, type]),
    [[1, "agent.started"]],
  );
});

test("a line is at most 16 KiB: long texts and lists keep both ends", async () => {
  await using scratch = await temporaryDirectory();
  await using journal = await openJournal({ layout: new RunLayout(scratch.path), runId, node });
  const trace = Array.from({ length: 5000 }, (_, n) => `line ${n} ${"é".repeat(50)}`);
  await journal.publish(
    "leaf.failed",
    { unit: "m--main", leaf: "l" },
    {
      fingerprint: "fp1:0",
      class: "metric",
      message: `start ${"x".repeat(100_000)} decisive`,
      trace_tail: trace,
      strike: 1,
    },
  );
  const text = await readFile(journal.path, "utf8");
  assert.ok(Buffer.byteLength(text) <= 16 * 1024);
  const [event] = parseLines(text) as unknown as [
    { message: string; trace_tail: string[]; shortened: boolean; leaf: string },
  ];
  assert.equal(event.shortened, true);
  assert.match(event.message, /^start x+\[… \d+ characters …\]x* decisive$/);
  assert.match(event.trace_tail[0] ?? "", /^line 0 /);
  assert.match(event.trace_tail.at(-1) ?? "", /^line 4999 /);
  assert.equal(event.leaf, "l");
});

/** A file that fails as told: before writing, after half of a write, or at the fsync. */
function failingFiles(faults: ("write" | "tear" | "sync" | undefined)[]) {
  const full = (): Error => Object.assign(new Error("no space left on device"), { code: "ENOSPC" });
  let syncs = 0;
  const openFile = async (path: string, flags: "ax" | "a"): Promise<JournalFile> => {
    const file = await open(path, flags);
    const write = async (data: Buffer) => {
      if (faults[0] === "write") {
        faults.shift();
        throw full();
      }
      if (faults[0] === "tear") {
        faults.shift();
        await file.write(data.subarray(0, Math.ceil(data.length / 2)));
        throw full();
      }
      return await file.write(data);
    };
    const datasync = async () => {
      if (faults[0] === "sync") {
        faults.shift();
        throw full();
      }
      faults.shift();
      syncs += 1;
      await file.datasync();
    };
    return { write: write as JournalFile["write"], datasync, close: () => file.close() };
  };
  return { openFile, syncs: () => syncs };
}

const hurried: Clock = {
  now: () => 0,
  monotonic: () => performance.now(),
  sleep: async (ms, signal) => {
    await wait(Math.min(ms, 5), undefined, signal === undefined ? {} : { signal });
  },
};

test("what could not be written is written again under its number, and told", async () => {
  await using scratch = await temporaryDirectory();
  const { openFile } = failingFiles([undefined, "write", "tear", "tear", "sync"]);
  const troubles: (string | undefined)[] = [];
  await using journal = await openJournal({
    layout: new RunLayout(scratch.path),
    runId,
    node,
    openFile,
    clock: hurried,
    onTrouble: (error) => troubles.push(error?.code),
  });
  const progress = { phase: "requests", done: 1, total: 2 } as const;
  await journal.publish("agent.started", {}, started);
  await journal.publish("batch.progress", { batch: "b" }, progress);
  await journal.publish("agent.ended", {}, { reason: "complete" });
  const whole = (await readFile(journal.path, "utf8")).split("\n").flatMap((line) => {
    try {
      return [(JSON.parse(line) as EventEnvelope).seq];
    } catch {
      return [];
    }
  });
  assert.deepEqual([...new Set(whole)].sort(), [1, 2, 3]);
  assert.deepEqual(troubles, [...Array(4).fill("events.write"), undefined]);
});

test("state is synced, progress is not", async () => {
  await using scratch = await temporaryDirectory();
  const { openFile, syncs } = failingFiles([]);
  const layout = new RunLayout(scratch.path);
  await using journal = await openJournal({ layout, runId, node, openFile });
  await journal.publish("agent.started", {}, started);
  assert.equal(syncs(), 1);
  const progress = { phase: "requests", done: 0, total: 0 } as const;
  for (let n = 0; n < 5; n++) await journal.publish("batch.progress", {}, progress);
  assert.equal(syncs(), 1);
  await journal.publish("agent.ended", {}, { reason: "complete" });
  assert.equal(syncs(), 2);
});

test("a disk that stays full is an error at the end, not a hang", async () => {
  await using scratch = await temporaryDirectory();
  const { openFile } = failingFiles(Array.from({ length: 10_000 }, () => "write" as const));
  const layout = new RunLayout(scratch.path);
  const journal = await openJournal({ layout, runId, node, openFile, clock: hurried });
  const published = assert.rejects(journal.publish("agent.started", {}, started), JournalError);
  await assert.rejects(async () => await journal[Symbol.asyncDispose](), /file system is full/);
  await published;
});

test("an event that a full disk does not take for 15 s is refused, and the next one is tried anew", async () => {
  await using scratch = await temporaryDirectory();
  let sleptMs = 0;
  const clock: Clock = {
    now: () => 0,
    monotonic: () => sleptMs,
    sleep: async (ms) => {
      sleptMs += ms;
    },
  };
  const faults = Array.from({ length: 1_000 }, () => "write" as "write" | undefined);
  const { openFile } = failingFiles(faults);
  const layout = new RunLayout(scratch.path);
  const journal = await openJournal({ layout, runId, node, openFile, clock });
  await assert.rejects(journal.publish("agent.started", {}, started), {
    code: "events.write",
    exitCode: 3,
    message: /Cannot write to the journal ".*": the file system is full/,
  });
  assert.ok(sleptMs >= 15_000 && sleptMs < 30_000, `${sleptMs} ms`);
  faults.length = 0;
  await journal.publish("agent.ended", {}, { reason: "failed" });
  // What was lost stays lost.
  await assert.rejects(async () => await journal[Symbol.asyncDispose](), JournalError);
});

test("a journal in a hurry gives up what it can't write within 5 s, and no sooner", async () => {
  await using scratch = await temporaryDirectory();
  const { openFile } = failingFiles(Array.from({ length: 1_000 }, () => "write" as const));
  const clock = new ManualClock();
  const hurry = new AbortController();
  const layout = new RunLayout(scratch.path);
  const options = { layout, runId, node, openFile, clock, hurry: hurry.signal };
  const journal = await openJournal(options);
  let settled = false;
  const published = journal.publish("agent.started", {}, started).finally(() => {
    settled = true;
  });
  const refused = assert.rejects(published, JournalError);
  await until(() => clock.sleepers === 1);
  hurry.abort();
  await until(() => clock.sleepers === 2);
  clock.advance(4_999);
  await until(() => clock.sleepers === 2);
  assert.equal(settled, false);
  clock.advance(1);
  await refused;
  await assert.rejects(async () => await journal[Symbol.asyncDispose](), JournalError);
});

test("a killed writer leaves every event it has acknowledged, without a gap", async () => {
  await using scratch = await temporaryDirectory();
  const program = join(import.meta.dirname, "endless-writer.ts");
  await using child = await startGroup(process.execPath, [program, scratch.path], {
    env: { PATH: process.env.PATH },
    stdout: "pipe",
  });
  let acknowledged = "";
  child.stdout?.on("data", (chunk: Buffer) => {
    acknowledged += chunk;
  });
  await until(() => acknowledged.split("\n").length > 50);
  child.signal("SIGKILL");
  await child.exited;
  const seen = Math.max(...acknowledged.split("\n").slice(0, -1).map(Number));
  const text = await readFile(join(new RunLayout(scratch.path).events, "killed.jsonl"), "utf8");
  const events = parseLines(text.slice(0, text.lastIndexOf("\n") + 1));
  assert.deepEqual(
    events.map(({ seq }) => seq),
    events.map((_, n) => n + 1),
  );
  assert.ok(events.length >= seen, `${events.length} events, ${seen} acknowledged`);
});
