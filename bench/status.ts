/**
 * `npm run bench -- status`: `eval-hive status` of large runs, three quarters of their leaves done, with the events that a real
 * run leaves; of the second call, which finds what the first has added up, and of the first.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openJournal } from "../src/events/journal.ts";
import type { LeafId } from "../src/run/ids.ts";
import { fingerprintAt, leafAt, makeSyntheticRun, unitAt } from "../test/support/synthetic-run.ts";
import { summarize } from "./support/repeats.ts";
import { keepResult } from "./support/result.ts";
import { timeCommand } from "./support/timed-command.ts";

const cli = join(import.meta.dirname, "../bin/eval-hive");
const repeats = 7;

/** What an agent writes about each leaf, a batch of its own. Agents take 20 units each. */
async function writeEvents(
  run: Awaited<ReturnType<typeof makeSyntheticRun>>,
  units: number,
  leaves: number,
): Promise<void> {
  const runId = run.plan.run_id;
  for (let from = 0; from < units; from += 20) {
    await using journal = await openJournal({
      layout: run.layout,
      runId,
      node: "node",
      role: "agent",
    });
    const job = { job: String(from) };
    const agent = { pid: 1, owner: `o${from}`, slots: 8, eval_hive_version: "0.1.0" };
    await journal.publish("agent.started", job, agent);
    for (let n = from; n < Math.min(from + 20, units); n++) {
      const written: Promise<void>[] = [];
      for (let at = 0; at < leaves; at++) {
        const subject = { ...job, unit: unitAt(n), batch: `u${n}-b${at}`, attempt: 1 };
        const leaf = { ...subject, leaf: leafAt(at) };
        const fingerprint = fingerprintAt(at);
        const times = { load_s: 1, requests_s: 20, total_s: 22 };
        const result = join(
          run.leafDirectory(unitAt(n)),
          `results_${leafAt(at)}.000000000000.json`,
        );
        const slot = at % 8;
        const ended = { outcome: "settled" as const, duration_s: 22, requests: 400 };
        written.push(
          journal.publish("batch.leased", subject, { leaves: [leafAt(at)] }),
          journal.publish("leaf.started", leaf, { slot, fingerprint }),
          journal.publish("batch.progress", leaf, { phase: "requests", done: 0, total: 400 }),
          journal.publish("leaf.done", leaf, {
            ...{ fingerprint, result, outcome: "created", n_samples: 100, n_requests: 400 },
            ...times,
          }),
          journal.publish("batch.ended", subject, {
            ...ended,
            prompt_tokens: 40_000,
            completion_tokens: 400,
            cpu_s: 1,
          }),
        );
      }
      await Promise.all(written);
    }
    await journal.publish("agent.ended", job, { reason: "complete" });
  }
}

async function measure(units: number, leaves: number) {
  const directory = await mkdtemp(join(tmpdir(), "eval-hive-bench-"));
  try {
    const run = await makeSyntheticRun({
      directory,
      units,
      leaves,
      leavesPerBatch: Math.ceil(leaves / 256),
      inputBytes: 300,
    });
    const done = Array.from({ length: Math.floor(leaves * 0.75) }, (_, n): LeafId => leafAt(n));
    for (let n = 0; n < units; n++) await run.settle(unitAt(n), done);
    await writeEvents(run, units, done.length);
    const [first, second]: { wall: number[]; cpu: number[] }[] = [
      { wall: [], cpu: [] },
      { wall: [], cpu: [] },
    ];
    for (let round = 0; round < repeats; round++) {
      const env = { ...process.env, XDG_CACHE_HOME: join(directory, `cache-${round}`) };
      for (const figures of [first, second]) {
        const { wall_s, cpu_s } = await timeCommand(cli, ["status", run.layout.directory], { env });
        figures?.wall.push(wall_s);
        figures?.cpu.push(cpu_s);
      }
    }
    return {
      units,
      leaves,
      status_s: summarize(second?.wall ?? []),
      status_cpu_s: summarize(second?.cpu ?? []),
      first_status_s: summarize(first?.wall ?? []),
      first_status_cpu_s: summarize(first?.cpu ?? []),
      raw: { status_s: second?.wall, first_status_s: first?.wall },
    };
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

const wide = await measure(40, 1_000);
const long = await measure(1_000, 50);
await keepResult("status", { units_40_leaves_1000: wide, units_1000_leaves_50: long });
