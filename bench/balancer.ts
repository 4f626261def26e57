/**
 * `npm run bench -- balancer`: the balancer beside itself with a journal, nginx, haproxy, a plain proxy on undici and no proxy.
 * Each is alone on one core, wrk and the servers (support/stub-server.c, four ports) have the other; slices of all in turn. Other
 * work on the machine can only slow a slice down: of each target the best one counts. How they compare is the median over the
 * rounds, in each of which all had the same machine. Shapes are KB of request / KB of answer; `--large` adds bodies of 50 MB.
 *
 *     npm run bench -- balancer [--shapes 2/2,12/200] [--connections 1,128] [--rounds 4] [--slice-s 2] [--large]
 *
 * Needs two cores, and cc, taskset and wrk; nginx and haproxy are left out where they are not installed.
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import { readFile, writeFile } from "node:fs/promises";
import { connect } from "node:net";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { type ChildGroup, runToEnd, startGroup } from "../src/base/spawn.ts";
import { temporaryDirectory } from "../test/support/temporary.ts";
import { until } from "../test/support/until.ts";
import { type ProxyKind, proxies } from "./support/proxies.ts";
import { keepResult } from "./support/result.ts";
import { type Load, runWrk, writeRequest } from "./support/wrk.ts";

const { values } = parseArgs({
  options: {
    shapes: { type: "string", default: "2/2,12/200,200/200" },
    connections: { type: "string", default: "1,16,128,512" },
    rounds: { type: "string", default: "4" },
    "slice-s": { type: "string", default: "2" },
    only: { type: "string" },
    large: { type: "boolean", default: false },
  },
});
const shapes = values.shapes.split(",");
const connections = values.connections.split(",").map(Number);
const rounds = Number(values.rounds);
const sliceS = Number(values["slice-s"]);
const largeS = 6;

/** Of one core, or its last: 0 for the load, 1 for what is measured. */
const onCore = (core: 0 | 1): readonly string[] => ["taskset", "-c", String(core)];
const firstPort = 21_000;
const servers = [1, 2, 3, 4].map((n) => firstPort + n);
/** Of /proc/PID/stat, on every Linux that Node runs on. */
const ticksPerS = 100;

/** Of one target, over all its slices. */
interface Figures {
  /** Of the best slice, as are the latencies. */
  requests_per_s: number;
  p50_ms: number;
  p99_ms: number;
  /** By the proxy: beyond what the servers alone take. */
  p50_added_ms: number;
  p99_added_ms: number;
  /** User and system time, of the slice with the least. */
  cpu_us_per_request: number;
  /** At its peak in any slice. */
  rss_mb: number;
  errors: number;
  slices_requests_per_s: number[];
}

interface Target {
  readonly name: string;
  readonly port: number;
  readonly pid: number | undefined;
}

async function isInstalled(program: string): Promise<boolean> {
  const { code } = await runToEnd("sh", ["-c", `command -v ${program}`], { env: process.env });
  return code === 0;
}

async function missing(programs: readonly string[]): Promise<string[]> {
  const found = await Promise.all(programs.map(isInstalled));
  return programs.filter((_, n) => found[n] === false);
}

async function listens(port: number): Promise<boolean> {
  const socket = connect(port, "127.0.0.1");
  try {
    await once(socket, "connect");
    return true;
  } catch {
    return false;
  } finally {
    socket.destroy();
  }
}

async function startPinned(core: 0 | 1, command: readonly string[]): Promise<ChildGroup> {
  const [file = "", ...args] = [...onCore(core), ...command];
  return await startGroup(file, args, { env: process.env, stdout: "ignore", stderr: "ignore" });
}

/** User and system time of a process since its start, in seconds. */
async function cpuOf(pid: number): Promise<number> {
  const stat = await readFile(`/proc/${pid}/stat`, "utf8");
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) / ticksPerS;
}

/** From now on `peakRssOf` knows of nothing before. */
async function forgetPeakRssOf(pid: number): Promise<void> {
  await writeFile(`/proc/${pid}/clear_refs`, "5");
}

async function peakRssOf(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, "utf8");
  return Number(/^VmHWM:\s+(\d+) kB$/m.exec(status)?.[1]) / 1024;
}

async function slice(
  target: Target,
  script: string,
  open: number,
  seconds: number,
): Promise<[Load, number, number]> {
  const { pid, port } = target;
  const before = pid === undefined ? 0 : await cpuOf(pid);
  if (pid !== undefined) await forgetPeakRssOf(pid);
  const url = `http://127.0.0.1:${port}/v1/completions`;
  const load = await runWrk(url, { script, connections: open, seconds }, onCore(0));
  if (pid === undefined) return [load, 0, 0];
  return [load, (await cpuOf(pid)) - before, await peakRssOf(pid)];
}

async function measure(
  targets: readonly Target[],
  script: string,
  open: number,
  seconds: number,
): Promise<Record<string, Figures>> {
  const figures: Record<string, Figures> = {};
  for (let round = 0; round < rounds; round++) {
    for (const target of targets) {
      const [load, cpuS, rssMb] = await slice(target, script, open, seconds);
      const cpuUs = (cpuS / load.requests) * 1e6;
      const before = figures[target.name];
      const rate = Math.round(load.requests_per_s);
      const isBest = before === undefined || rate > before.requests_per_s;
      figures[target.name] = {
        requests_per_s: isBest ? rate : before.requests_per_s,
        p50_ms: isBest ? load.p50_ms : before.p50_ms,
        p99_ms: isBest ? load.p99_ms : before.p99_ms,
        p50_added_ms: 0,
        p99_added_ms: 0,
        cpu_us_per_request: Number(Math.min(cpuUs, before?.cpu_us_per_request ?? cpuUs).toFixed(1)),
        rss_mb: Math.round(Math.max(rssMb, before?.rss_mb ?? 0)),
        errors: load.errors + (before?.errors ?? 0),
        slices_requests_per_s: [...(before?.slices_requests_per_s ?? []), rate],
      };
    }
  }
  const { direct } = figures;
  for (const one of Object.values(figures)) {
    one.p50_added_ms = Number((one.p50_ms - (direct?.p50_ms ?? 0)).toFixed(3));
    one.p99_added_ms = Number((one.p99_ms - (direct?.p99_ms ?? 0)).toFixed(3));
  }
  return figures;
}

/**
 * How ours compares: its requests per second in percent of another's, in the middle one of the rounds; and what is left of them
 * when it keeps every answer.
 */
function compare(figures: Record<string, Figures>): Record<string, number> {
  const { balancer, journalled, ...others } = figures;
  const ours = balancer?.slices_requests_per_s ?? [];
  const percent = (some: readonly number[], of: readonly number[]) =>
    Math.round(100 * median(some.map((rate, round) => rate / (of[round] ?? Number.NaN))));
  return Object.fromEntries([
    ...Object.entries(others).map(([name, { slices_requests_per_s: theirs }]) => [
      `percent_of_${name}`,
      percent(ours, theirs),
    ]),
    ...(journalled === undefined
      ? []
      : [["percent_with_journal", percent(journalled.slices_requests_per_s, ours)]]),
  ]);
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = (sorted.length - 1) / 2;
  return ((sorted[Math.floor(middle)] ?? 0) + (sorted[Math.ceil(middle)] ?? 0)) / 2;
}

async function measureShape(
  shape: string,
  chosen: readonly ProxyKind[],
  connections: readonly number[],
  seconds = sliceS,
) {
  const [up = 0, down = 0] = shape.split("/").map((kb) => Number(kb) * 1_024);
  await using directory = await temporaryDirectory("eval-hive-bench-");
  const program = join(directory.path, "stub-server");
  const source = join(import.meta.dirname, "support/stub-server.c");
  const made = await runToEnd("cc", ["-O2", "-o", program, source], { env: process.env });
  assert.equal(made.code, 0, made.stderr);
  const script = join(directory.path, "request.lua");
  await writeRequest(script, up);
  await using running = new AsyncDisposableStack();
  const start = async (core: 0 | 1, command: readonly string[]) =>
    running.adopt(await startPinned(core, command), async (group) => {
      await group.stop({ graceMs: 500 });
    });
  await start(0, [program, String(down), ...servers.map(String)]);
  await until(() => listens(servers[0] as number));
  const targets: Target[] = [];
  for (const [n, { name, prepare }] of chosen.entries()) {
    const port = firstPort + 10 + n;
    const place = { directory: directory.path, port, servers };
    const { pid } = await start(1, await prepare(place));
    await until(() => listens(port), { what: `${name} listens` });
    targets.push({ name, port, pid });
  }
  targets.push({ name: "direct", port: servers[0] as number, pid: undefined });
  const byConnections: Record<string, object> = {};
  // Unmeasured: code that is not compiled yet, memory that was never touched.
  for (const target of targets) await slice(target, script, connections.at(-1) ?? 1, seconds);
  for (const open of connections) {
    const figures = await measure(targets, script, open, seconds);
    byConnections[open] = { ...figures, ...compare(figures) };
    process.stderr.write(`${shape} KB, ${open} connections: ${JSON.stringify(compare(figures))}\n`);
  }
  return byConnections;
}

const lacking = await missing(["cc", "taskset", "wrk"]);
if (lacking.length > 0 || availableParallelism() < 2) {
  const what = lacking.length > 0 ? lacking.join(", ") : "a second core";
  process.stderr.write(`eval-hive: this bench needs ${what}\n`);
  process.exitCode = 3;
} else {
  const wanted = proxies.filter(
    ({ name }) => values.only === undefined || values.only.split(",").includes(name),
  );
  const without = await missing(wanted.flatMap(({ needs }) => needs ?? []));
  if (without.length > 0) process.stderr.write(`Left out, not installed: ${without.join(", ")}\n`);
  const chosen = wanted.filter(({ needs }) => needs === undefined || !without.includes(needs));
  const measured: Record<string, object> = {};
  for (const shape of shapes) {
    measured[`${shape}_kb`] = await measureShape(shape, chosen, connections);
  }
  // Eight at once must not take eight times the memory. A round of them takes longer than a second.
  const large = "51200/51200";
  if (values.large) {
    const seconds = Math.max(sliceS, largeS);
    measured[`${large}_kb`] = await measureShape(large, chosen, [8], seconds);
  }
  await keepResult("balancer", { rounds, slice_s: sliceS, by_connections: measured });
}
