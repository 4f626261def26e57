/**
 * `npm run bench -- overhead`: how much longer a whole run takes than its server needs, when the server takes the same time
 * for each prompt and a batch takes ten seconds. From the server's being ready to the last result, median of three.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { summarize } from "./support/repeats.ts";
import { keepResult } from "./support/result.ts";
import {
  evaluate,
  eventsOf,
  planWorkload,
  promptsAnswered,
  promptsOf,
  type Shape,
  serverBoundS,
  serverTimes,
} from "./support/workload.ts";

const python = process.env["EVAL_HIVE_PYTHON"] ?? "python3";
const repeats = Number(process.env["BENCH_REPEATS"] ?? 3);
/** 16 batches of 400 prompts for four slots: each has a quarter of the server, which does 160 prompts per second. */
const shape: Shape = { tasks: { choice: 16 }, documents: 100, promptMs: 100 };
const idealS = serverBoundS(shape);

interface Makespan {
  readonly makespan_s: number;
  readonly overhead: number;
  /** Of the batches: lease to end. */
  readonly shortest_batch_s: number;
}

async function measure(): Promise<Makespan> {
  const directory = await mkdtemp(join(tmpdir(), "eval-hive-bench-"));
  try {
    const workload = await planWorkload(directory, { shape, units: 1, python });
    const { lastResultAtMs } = await evaluate(workload);
    const ready = (await serverTimes(workload)).find(({ event }) => event === "ready");
    const answered = await promptsAnswered(workload);
    if (answered !== promptsOf(shape)) throw new Error(`${answered} prompts were answered`);
    const makespan_s = (lastResultAtMs - (ready?.at_ms ?? Number.NaN)) / 1_000;
    const batches = await eventsOf(workload.run, "batch.ended");
    return {
      makespan_s,
      overhead: makespan_s / idealS - 1,
      shortest_batch_s: Math.min(...batches.map(({ duration_s }) => Number(duration_s))),
    };
  } finally {
    await rm(directory, { recursive: true, force: true, maxRetries: 5 });
  }
}

const raw: Makespan[] = [];
for (let round = 0; round < repeats; round++) raw.push(await measure());

await keepResult("overhead", {
  prompts: promptsOf(shape),
  server_bound_s: idealS,
  makespan_s: summarize(raw.map(({ makespan_s }) => makespan_s)),
  overhead: summarize(raw.map(({ overhead }) => overhead)),
  raw,
});
