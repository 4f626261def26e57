/**
 * `npm run bench -- workload`: a whole run of 24 tasks on this machine, behind a server of known speed that takes 3 s to get
 * ready. What it costs beyond that server; what a killed server and an interrupt cost. Each figure is the median of five.
 */
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { processesWithEnvironment } from "../src/base/proc.ts";
import { summarize } from "./support/repeats.ts";
import { keepResult } from "./support/result.ts";
import {
  evaluate,
  eventsOf,
  planWorkload,
  promptsAnswered,
  promptsAsked,
  promptsOf,
  pythonCpuS,
  serverBoundS,
  serverTimes,
  type Workload,
  workloadW,
} from "./support/workload.ts";

const python = process.env["EVAL_HIVE_PYTHON"] ?? "python3";
const prompts = promptsOf(workloadW);
const repeats = Number(process.env["BENCH_REPEATS"] ?? 5);

async function inWorkload<T>(
  units: number,
  measure: (workload: Workload) => Promise<T>,
): Promise<T> {
  const directory = await mkdtemp(join(tmpdir(), "eval-hive-bench-"));
  try {
    return await measure(await planWorkload(directory, { shape: workloadW, units, python }));
  } finally {
    await rm(directory, { recursive: true, force: true, maxRetries: 5 });
  }
}

/** From the start of `run` on; a healthy server is one that says so. */
async function undisturbed(units: number) {
  return await inWorkload(units, async (workload) => {
    const seen = await evaluate(workload);
    const times = await serverTimes(workload);
    const first = (event: string) => times.find((one) => one.event === event)?.at_ms ?? Number.NaN;
    const answered = await promptsAnswered(workload);
    if (answered !== units * prompts) throw new Error(`${answered} prompts were answered`);
    const [harness] = await eventsOf(workload.run, "harness.started");
    return {
      harness_warm_s: (Date.parse(harness?.at ?? "") - seen.startedAtMs) / 1_000,
      server_ready_s: (first("ready") - seen.startedAtMs) / 1_000,
      first_request_after_ready_s: (first("first-request") - first("ready")) / 1_000,
      last_result_after_ready_s: (seen.lastResultAtMs - first("ready")) / 1_000,
      end_s: (seen.endedAtMs - seen.startedAtMs) / 1_000,
      python_cpu_s: await pythonCpuS(workload),
    };
  });
}

/** Waits until half of the prompts were answered. */
async function half(workload: Workload): Promise<void> {
  while ((await promptsAnswered(workload)) < prompts / 2) await wait(5);
}

async function serverPids({ directory }: Workload): Promise<number[]> {
  const all = await processesWithEnvironment("HOME", directory);
  const found: number[] = [];
  for (const pid of all) {
    const command = await readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "");
    if (command.includes("paced-server")) found.push(pid);
  }
  return found;
}

/** The share of prompts that were asked again because the server was killed when half of them were answered. */
async function serverKilled(): Promise<number> {
  return await inWorkload(1, async (workload) => {
    await evaluate(workload, async () => {
      await half(workload);
      for (const pid of await serverPids(workload)) process.kill(pid, "SIGKILL");
    });
    return (await promptsAsked(workload)) / prompts - 1;
  });
}

/** Likewise for an interrupt, after which the run is started again. */
async function interrupted(): Promise<number> {
  return await inWorkload(1, async (workload) => {
    await evaluate(workload, async (pid) => {
      await half(workload);
      process.kill(pid, "SIGINT");
    });
    await evaluate(workload);
    return (await promptsAsked(workload)) / prompts - 1;
  });
}

const one: Awaited<ReturnType<typeof undisturbed>>[] = [];
const three: typeof one = [];
const killed: number[] = [];
const stopped: number[] = [];
for (let round = 0; round < repeats; round++) {
  one.push(await undisturbed(1));
  three.push(await undisturbed(3));
  killed.push(await serverKilled());
  stopped.push(await interrupted());
  process.stderr.write(
    `${JSON.stringify({ one: one.at(-1), three: three.at(-1), killed: killed.at(-1), stopped: stopped.at(-1) })}\n`,
  );
}

function medians(seen: typeof one): object {
  const keys = Object.keys(seen[0] ?? {}) as (keyof (typeof one)[number])[];
  return Object.fromEntries(keys.map((key) => [key, summarize(seen.map((it) => it[key]))]));
}

await keepResult("workload", {
  prompts,
  server_bound_s: serverBoundS(workloadW),
  one_unit: medians(one),
  three_units: medians(three),
  asked_again_after_server_kill: summarize(killed),
  asked_again_after_interrupt: summarize(stopped),
  raw: { one, three, killed, stopped },
});
