/**
 * `npm run bench -- balancer`: the balancer beside itself with a journal, nginx, haproxy, a plain proxy on undici and no proxy.
 * Each is alone on one core, wrk and the servers (support/stub-server.c, four ports) have the other; slices of all in turn. Other
 * work on the machine can only slow a slice down: of each target the best one counts. How they compare is the median over the
 * rounds, in each of which all had the same machine. Shapes are KB of request / KB of answer; `--large` adds bodies of 50 MB.
 *
 *     npm run bench -- balancer [--shapes 2/2,12/200] [--rounds 5] [--slice-s 2] [--large]
 *     npm run bench -- balancer --only balancer,journalled --connections 128
 *
 * Shapes are kept one by one, with the bars that they are held to. What is measured with `--only` or `--connections` is printed,
 * and not kept. Needs two cores, and cc, taskset and wrk; nginx and haproxy are left out where they are not installed.
 */
import { once } from "node:events";
import { connect } from "node:net";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { type ChildGroup, runToEnd, startGroup } from "../src/base/spawn.ts";
import { temporaryDirectory } from "../test/support/temporary.ts";
import { until } from "../test/support/until.ts";
import { checkBars, type ShapeFigures } from "./support/bars.ts";
import { compile } from "./support/compile.ts";
import { type ProxyKind, proxies } from "./support/proxies.ts";
import { keepResult, keptResult } from "./support/result.ts";
import { compare, measure, slice, type Target } from "./support/slices.ts";
import { writeRequest } from "./support/wrk.ts";

const { values } = parseArgs({
  options: {
    shapes: { type: "string", default: "2/2,12/200,200/200" },
    connections: { type: "string" },
    rounds: { type: "string", default: "5" },
    "slice-s": { type: "string", default: "2" },
    only: { type: "string" },
    large: { type: "boolean", default: false },
  },
});
const sliceS = Number(values["slice-s"]);

/** A shape of load, and how long it is measured. */
interface Plan {
  /** KB of request / KB of answer. */
  readonly shape: string;
  /** Rounds, by how many connections are open. */
  readonly rounds: ReadonlyMap<number, number>;
  readonly seconds: number;
  readonly proxies: readonly ProxyKind[];
}

/** Of one core, or its last: 0 for the load, 1 for what is measured. */
const onCore = (core: 0 | 1): readonly string[] => ["taskset", "-c", String(core)];
const firstPort = 21_000;
const servers = [1, 2, 3, 4].map((n) => firstPort + n);

/** The bars are at 128 connections, but for some of latency and memory: all else is there to be looked at. */
function planShape(shape: string, chosen: readonly ProxyKind[]): Plan {
  const many = Number(values.rounds);
  const usual = new Map([
    [1, 1],
    [16, 1],
    ...(shape === "12/200" ? ([[32, 3]] as const) : []),
    [128, many],
    [512, 1],
  ]);
  const asked = values.connections?.split(",").map((open) => [Number(open), many] as const);
  const rounds = asked === undefined ? usual : new Map(asked);
  return { shape, rounds, seconds: sliceS, proxies: chosen };
}

/** Eight at once must not take eight times the memory. No journal keeps such answers. */
function planLarge(chosen: readonly ProxyKind[]): Plan {
  return {
    shape: "51200/51200",
    rounds: new Map([[8, 1]]),
    // A round of them takes seconds.
    seconds: Math.max(sliceS, 10),
    proxies: chosen.filter(({ name }) => name !== "journalled"),
  };
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

async function measureShape(plan: Plan): Promise<ShapeFigures> {
  const { shape, rounds, seconds } = plan;
  const [up = 0, down = 0] = shape.split("/").map((kb) => Number(kb) * 1_024);
  await using directory = await temporaryDirectory("eval-hive-bench-");
  const program = await compile("stub-server", directory.path);
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
  for (const [n, { name, prepare }] of plan.proxies.entries()) {
    const port = firstPort + 10 + n;
    const place = { directory: directory.path, port, servers };
    const { pid } = await start(1, await prepare(place));
    await until(() => listens(port), { what: `${name} listens` });
    targets.push({ name, port, pid });
  }
  targets.push({ name: "direct", port: servers[0] as number, pid: undefined });
  const load = { script, seconds, prefix: onCore(0) };
  // Unmeasured: code that is not compiled yet, memory that was never touched.
  const most = Math.max(...rounds.keys());
  for (const target of targets) await slice(target, { ...load, connections: most });
  const figures: ShapeFigures = { at: "", rounds: Object.fromEntries(rounds), by_connections: {} };
  for (const [connections, times] of rounds) {
    const measured = await measure(targets, { ...load, connections, rounds: times });
    const comparison = compare(measured);
    figures.by_connections[connections] = { comparison, targets: measured };
    process.stderr.write(`${shape} KB, ${connections}: ${JSON.stringify(comparison)}\n`);
  }
  return { ...figures, at: new Date().toISOString() };
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
  const isPart = values.only !== undefined || values.connections !== undefined;
  const before = isPart ? undefined : await keptResult("balancer");
  const shapes = { ...(before?.["shapes_kb"] as Record<string, ShapeFigures> | undefined) };
  const asked = values.shapes.split(",").filter((shape) => shape !== "");
  const plans = asked.map((shape) => planShape(shape, chosen));
  for (const plan of values.large ? [...plans, planLarge(chosen)] : plans) {
    shapes[plan.shape] = await measureShape(plan);
  }
  const bars = checkBars(shapes);
  process.stderr.write(`${bars.map(({ text }) => text).join("\n")}\n`);
  const result = { slice_s: sliceS, bars, shapes_kb: shapes };
  if (isPart) process.stdout.write(`${JSON.stringify(result, undefined, 2)}\n`);
  else await keepResult("balancer", result);
}
