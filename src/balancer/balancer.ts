import { monitorEventLoopDelay } from "node:perf_hooks";
import { type Clock, systemClock } from "../base/clock.ts";
import type { Logger } from "../base/log.ts";
import { Accounts } from "./accounts.ts";
import { Blocks } from "./blocks.ts";
import type { Backend, Engine } from "./control.ts";
import { Diagnosis } from "./diagnosis.ts";
import { Fleet, type FleetProspects } from "./fleet.ts";
import { Forwarder } from "./forward.ts";
import { Front } from "./front.ts";
import { HeldBytes } from "./held-bytes.ts";
import { Journals, Replay } from "./journals.ts";
import { Judge } from "./judge.ts";
import { defaultLimits, type Limits } from "./limits.ts";
import { isLoopback } from "./listen.ts";
import { renderMetrics } from "./metrics.ts";
import { Prompts } from "./prompts.ts";
import { type Page, Routes } from "./routes.ts";
import type { Server } from "./server.ts";
import { healthData, type StatusSources, statusData } from "./status.ts";
import type { Tally } from "./tally.ts";
import { watchServer } from "./watch.ts";
import { watchEngine } from "./watch-engine.ts";

export interface BalancerOptions {
  readonly host: string;
  /** The first free one is taken; 0: any. */
  readonly ports: readonly number[];
  /** Undefined, on loopback alone: whoever reaches the port may ask. */
  readonly token: string | undefined;
  readonly attemptTimeoutMs: number;
  /** Default: least requests in flight. `prompt`: servers that have seen a prompt's beginning go first. */
  readonly affinity?: "none" | "prompt";
  /** Default: `/health`. */
  readonly healthPath?: string;
  readonly limits?: Partial<Limits>;
  /** For tests. */
  readonly blocks?: Blocks;
  readonly clock?: Clock;
  readonly log: Logger;
}

/** What there is to be expected of the servers. */
export interface Prospects extends FleetProspects {
  /** Of all servers, as journals take it. */
  readonly identity?: string | undefined;
}

/** One address for many servers. */
export interface RunningBalancer extends AsyncDisposable {
  readonly port: number;
  readonly accounts: Accounts;
  readonly journals: Journals;
  /** What requests at each server came to, by its id; those that have left included. */
  readonly servers: ReadonlyMap<string, Tally>;
  /** What servers say of themselves, by their ids; without those that say nothing. */
  readonly engines: ReadonlyMap<string, Engine>;
  readonly inFlight: number;
  readonly waiting: number;
  attemptTimeoutMs: number;
  /** Makes these the servers, all of them. */
  setServers(backends: readonly Backend[], prospects: Prospects): void;
  /** Takes no more requests, and waits until those that are here are answered or the signal aborts. */
  drain(signal: AbortSignal): Promise<void>;
}

const tickMs = 250;
/** A burst of requests comes again soon, or not so soon. */
const trimMs = 10_000;
const summaryMs = 30_000;

/** @throws when none of the ports is free, or when others could reach it without a token. */
export async function startBalancer(options: BalancerOptions): Promise<RunningBalancer> {
  const { host, token, log, clock = systemClock, healthPath = "/health" } = options;
  // An empty one is anybody's guess.
  if ((token === undefined || token === "") && !isLoopback(host)) {
    throw new RangeError(`A balancer that listens on ${host} needs a token`);
  }
  const limits = { ...defaultLimits, ...options.limits };
  const byPrompt = options.affinity === "prompt";
  const state = { attemptTimeoutMs: options.attemptTimeoutMs };
  const accounts = new Accounts();
  const held = new HeldBytes(limits.heldBytes);
  const journals = new Journals(held);
  const blocks = options.blocks ?? new Blocks();
  const diagnosis = new Diagnosis({ healthPath, limits, clock });
  const fleet: Fleet = new Fleet({
    limits,
    clock,
    log,
    prompts: byPrompt ? new Prompts() : undefined,
    watch: async (server, signal) => {
      const health = watchServer(
        server,
        {
          healthPath,
          limits,
          clock,
          report: (seen, event) => fleet.report(seen, event),
          reportDeath: (seen, reason) => fleet.reportDeath(seen, reason),
          // Where all servers are silent they are busy, and asking anew would make it worse.
          onFrozen: (frozen) => {
            if (fleet.hasWellBesides(frozen)) takeBack(frozen, log);
          },
        },
        signal,
      );
      await Promise.all([health, watchEngine(server, { limits, clock }, signal)]);
    },
  });
  const judge = new Judge({ fleet, diagnosis, clock });
  const timeoutMs = () => state.attemptTimeoutMs;
  const forwarder = new Forwarder({
    fleet,
    judge,
    held,
    blocks,
    limits,
    clock,
    log,
    timeoutMs,
    byPrompt,
  });
  const startedAt = clock.monotonic();
  const delay = monitorEventLoopDelay({ resolution: 20 });
  delay.enable();
  const sources: StatusSources = {
    fleet,
    forwarder,
    accounts,
    held,
    inFlight: () => front.inFlight,
    lag: () => ({ mean: delay.mean / 1e6, max: delay.max / 1e6 }),
    uptimeMs: () => clock.monotonic() - startedAt,
  };
  const front: Front = new Front({
    routes: new Routes(token, accounts, journals),
    forwarder: new Replay(forwarder),
    pages: (page) => renderPage(page, sources),
    held,
    blocks,
    limits,
    clock,
  });
  const port = await front.listen(host, options.ports);
  const ticking = setInterval(() => {
    fleet.tick();
    front.tick();
  }, tickMs);
  const trimming = setInterval(() => blocks.trim(), trimMs);
  const summing = setInterval(() => logSummary(sources, log), summaryMs);
  return {
    port,
    accounts,
    journals,
    servers: fleet.tallies,
    get engines() {
      return new Map(
        fleet.servers.flatMap(({ id, engine }) => (engine === undefined ? [] : [[id, engine]])),
      );
    },
    get inFlight() {
      return front.inFlight;
    },
    get waiting() {
      return fleet.waiting;
    },
    get attemptTimeoutMs() {
      return state.attemptTimeoutMs;
    },
    set attemptTimeoutMs(ms) {
      state.attemptTimeoutMs = ms;
    },
    setServers: (backends, { identity, ...prospects }) => {
      fleet.setServers(backends, prospects);
      journals.setServers(backends.length, identity);
    },
    drain: async (signal) => await front.drain(signal),
    [Symbol.asyncDispose]: async () => {
      clearInterval(ticking);
      clearInterval(trimming);
      clearInterval(summing);
      delay.disable();
      await front[Symbol.asyncDispose]();
      await fleet[Symbol.asyncDispose]();
      await journals.closeAll();
    },
  };
}

function takeBack(server: Server, log: Logger): void {
  const { id, attempts } = server;
  log.warn({ server: id, requests: attempts.size }, "requests taken back from a frozen server");
  for (const attempt of attempts.list()) attempt.takeBack();
}

function renderPage(page: Page, sources: StatusSources) {
  if (page === "metrics") {
    return { contentType: "text/plain; version=0.0.4", text: renderMetrics(sources) };
  }
  const data = page === "health" ? healthData(sources) : statusData(sources);
  return { contentType: "application/json", text: `${JSON.stringify(data)}\n` };
}

function logSummary({ accounts, fleet, inFlight }: StatusSources, log: Logger): void {
  const { answered, refused, abandoned, retries } = accounts.totals;
  const { waiting } = fleet;
  log.info({ answered, refused, abandoned, retries, in_flight: inFlight(), waiting }, "requests");
}
