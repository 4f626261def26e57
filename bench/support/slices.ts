/** Slices of load on one target after the other, what they come to, and how the targets compare. */
import { readFile, writeFile } from "node:fs/promises";
import { median } from "./repeats.ts";
import { type Load, runWrk } from "./wrk.ts";

/** What is measured: a proxy, or the servers alone. */
export interface Target {
  readonly name: string;
  readonly port: number;
  /** Undefined: what it costs is not asked. */
  readonly pid: number | undefined;
}

export interface SliceOptions {
  /** For wrk. */
  readonly script: string;
  readonly connections: number;
  readonly seconds: number;
  /** Before the command that makes the load. */
  readonly prefix: readonly string[];
}

/** Of one target, over all its slices. */
export interface Figures {
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
  slices_cpu_us_per_request: number[];
}

/** How ours compares, in percent: with each other target, and with itself when it keeps every answer. */
export type Comparison = Record<string, number>;

/** Of /proc/PID/stat, on every Linux that Node runs on. */
const ticksPerS = 100;

/** A slice of each target in turn, `rounds` times. @returns figures by the targets' names */
export async function measure(
  targets: readonly Target[],
  options: SliceOptions & { readonly rounds: number },
): Promise<Record<string, Figures>> {
  const figures: Record<string, Figures> = {};
  for (let round = 0; round < options.rounds; round++) {
    for (const target of targets) {
      const { load, cpuS, rssMb } = await slice(target, options);
      const cpuUs = Number(((cpuS / load.requests) * 1e6).toFixed(1));
      const before = figures[target.name];
      const rate = Number(load.requests_per_s.toFixed(1));
      const isBest = before === undefined || rate > before.requests_per_s;
      figures[target.name] = {
        requests_per_s: isBest ? rate : before.requests_per_s,
        p50_ms: isBest ? load.p50_ms : before.p50_ms,
        p99_ms: isBest ? load.p99_ms : before.p99_ms,
        p50_added_ms: 0,
        p99_added_ms: 0,
        cpu_us_per_request: Math.min(cpuUs, before?.cpu_us_per_request ?? cpuUs),
        rss_mb: Math.round(Math.max(rssMb, before?.rss_mb ?? 0)),
        errors: load.errors + (before?.errors ?? 0),
        slices_requests_per_s: [...(before?.slices_requests_per_s ?? []), rate],
        slices_cpu_us_per_request: [...(before?.slices_cpu_us_per_request ?? []), cpuUs],
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

/** One slice of load. */
export async function slice(
  { pid, port }: Target,
  { script, connections, seconds, prefix }: SliceOptions,
): Promise<{ load: Load; cpuS: number; rssMb: number }> {
  const before = pid === undefined ? 0 : await cpuOf(pid);
  if (pid !== undefined) await forgetPeakRssOf(pid);
  const url = `http://127.0.0.1:${port}/v1/completions`;
  const load = await runWrk(url, { script, connections, seconds }, prefix);
  if (pid === undefined) return { load, cpuS: 0, rssMb: 0 };
  return { load, cpuS: (await cpuOf(pid)) - before, rssMb: await peakRssOf(pid) };
}

/** Of each ratio the middle one of the rounds, in each of which all targets had the same machine. */
export function compare(figures: Record<string, Figures>): Comparison {
  const { balancer, journalled, direct, ...others } = figures;
  const comparison: Comparison = {};
  if (balancer === undefined) return comparison;
  const rate = "slices_requests_per_s";
  const cpu = "slices_cpu_us_per_request";
  const percent = (key: typeof rate | typeof cpu, one: Figures, other: Figures) =>
    Math.round(100 * median(one[key].map((value, round) => value / (other[key][round] ?? NaN))));
  for (const [name, other] of Object.entries(others)) {
    comparison[`percent_of_${name}`] = percent(rate, balancer, other);
    comparison[`cpu_percent_of_${name}`] = percent(cpu, balancer, other);
    comparison[`p50_added_percent_of_${name}`] = Math.round(
      (100 * balancer.p50_added_ms) / other.p50_added_ms,
    );
    comparison[`p99_percent_of_${name}`] = Math.round((100 * balancer.p99_ms) / other.p99_ms);
  }
  if (direct !== undefined) comparison["percent_of_direct"] = percent(rate, balancer, direct);
  if (journalled !== undefined) {
    comparison["percent_with_journal"] = percent(rate, journalled, balancer);
    comparison["cpu_percent_with_journal"] = percent(cpu, journalled, balancer);
  }
  return comparison;
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
