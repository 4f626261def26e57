/**
 * Claims per second with 64 processes, renames tried per claim, and the census of 100,000 batches. On the file system of the
 * temporary directory.
 */
import { type ChildProcessByStdio, spawn } from "node:child_process";
import { once } from "node:events";
import type { Readable, Writable } from "node:stream";
import { text } from "node:stream/consumers";
import { beginEpoch } from "../src/queue/epoch.ts";
import { type FsQueue, openFsQueue } from "../src/queue/fs-queue.ts";
import type { BatchId, OwnerId, ShardId } from "../src/run/ids.ts";
import { RunLayout } from "../src/run/layout.ts";
import { temporaryDirectory } from "../test/support/temporary.ts";
import { keepResult } from "./support/result.ts";

const processes = 64;
const claims = 20_000;
const batchesPerShard = 250;
const censusBatches = 100_000;

async function publish(queue: FsQueue, batches: number): Promise<ShardId[]> {
  const ids = Array.from({ length: batchesPerShard }, (_, n) => `b${n}`);
  const listed = ids.map((id) => ({ id: id as BatchId, leaves: [] }));
  const shards = Array.from(
    { length: batches / batchesPerShard },
    (_, n) => `unit-${n}--main.g1` as ShardId,
  );
  for (const shard of shards) await queue.publish(shard, listed);
  return shards;
}

type Worker = ChildProcessByStdio<Writable, Readable, null>;

interface WorkerAnswer {
  readonly claims: number;
  readonly claimAttempts: number;
}

/** One of the 64: says "ready", waits for the word, claims and finishes until nothing is left. */
async function work(directory: string, worker: number): Promise<void> {
  await using queue = await openFsQueue({ layout: new RunLayout(directory) });
  const shards = await queue.shards();
  const home = Math.floor((worker * shards.length) / processes);
  process.stdout.write("ready\n");
  await once(process.stdin, "data");
  for (const shard of [...shards.slice(home), ...shards.slice(0, home)]) {
    for (;;) {
      const lease = await queue.claim(shard, `worker-${worker}` as OwnerId);
      if (lease === undefined) break;
      await lease.finish();
    }
  }
  process.stdout.write(JSON.stringify(queue.counters));
  process.exit(0);
}

/** Lets all workers start at once. */
async function race(workers: readonly Worker[]) {
  await Promise.all(workers.map(({ stdout }) => once(stdout, "data")));
  const startedAt = performance.now();
  const answers = await Promise.all(
    workers.map(async ({ stdin, stdout }) => {
      stdin.write("go\n");
      return JSON.parse(await text(stdout)) as WorkerAnswer;
    }),
  );
  return { answers, seconds: (performance.now() - startedAt) / 1_000 };
}

async function measureClaims(directory: string) {
  const layout = new RunLayout(directory);
  await beginEpoch(layout, 1);
  await using queue = await openFsQueue({ layout });
  await publish(queue, claims);
  const workers = Array.from({ length: processes }, (_, worker) =>
    spawn(process.execPath, [import.meta.filename, directory, String(worker)], {
      stdio: ["pipe", "pipe", "inherit"],
      env: { ...process.env, UV_THREADPOOL_SIZE: "1" },
    }),
  );
  const { seconds, answers } = await race(workers).finally(() => {
    for (const worker of workers) worker.kill("SIGKILL");
  });
  const claimed = answers.reduce((sum, answer) => sum + answer.claims, 0);
  const attempts = answers.reduce((sum, answer) => sum + answer.claimAttempts, 0);
  if (claimed !== claims) throw new Error(`${claimed} claims of ${claims} batches`);
  return {
    processes,
    claims: claimed,
    claims_per_s: Math.round(claimed / seconds),
    rename_attempts_per_claim: Number((attempts / claimed).toFixed(3)),
  };
}

/** Each batch claimed once and open: what status looks at in the middle of a large run. */
async function measureCensus(directory: string) {
  const layout = new RunLayout(directory);
  await beginEpoch(layout, 1);
  await using writer = await openFsQueue({ layout });
  const shards = await publish(writer, censusBatches);
  for (const shard of shards) await writer.claim(shard, "opener" as OwnerId);
  await using reader = await openFsQueue({ layout });
  const startedAt = performance.now();
  let batches = 0;
  for (const shard of await reader.shards()) {
    batches += (await reader.census(shard)).batches.size;
  }
  const seconds = (performance.now() - startedAt) / 1_000;
  if (batches !== censusBatches) throw new Error(`${batches} batches of ${censusBatches}`);
  return { batches, shards: shards.length, census_s: Number(seconds.toFixed(3)) };
}

async function inTemporaryDirectory<T>(body: (directory: string) => Promise<T>): Promise<T> {
  await using directory = await temporaryDirectory("eval-hive-bench-");
  return await body(directory.path);
}

async function main(): Promise<void> {
  await keepResult("queue", {
    claim: await inTemporaryDirectory(measureClaims),
    census: await inTemporaryDirectory(measureCensus),
  });
}

const [directory, worker] = process.argv.slice(2);
await (directory === undefined ? main() : work(directory, Number(worker)));
