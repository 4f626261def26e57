import type { Accounts } from "./accounts.ts";
import type { Counts } from "./control.ts";
import type { Fleet } from "./fleet.ts";
import type { Forwarder } from "./forward.ts";
import type { HeldBytes } from "./held-bytes.ts";
import type { Server } from "./server.ts";
import type { Tally } from "./tally.ts";

/** Where the figures of the balancer's pages come from. */
export interface StatusSources {
  readonly fleet: Fleet;
  readonly forwarder: Forwarder;
  readonly accounts: Accounts;
  readonly held: HeldBytes;
  readonly inFlight: () => number;
  /** Of the event loop, since the last call, in milliseconds. */
  readonly lag: () => { readonly mean: number; readonly max: number };
  readonly uptimeMs: () => number;
}

/** `/lb/health`: whether a request would find a server. Asks nobody. */
export function healthData({ fleet }: StatusSources) {
  const servers = fleet.servers.filter(({ standing }) => standing !== "down").length;
  return { status: servers > 0 ? "ok" : "no-server", servers, waiting: fleet.waiting };
}

/** `/lb/status`: everything at a glance. */
export function statusData(sources: StatusSources) {
  const { fleet, forwarder, accounts, held, inFlight, lag, uptimeMs } = sources;
  return {
    schema_version: 1,
    uptime_s: seconds(uptimeMs()),
    in_flight: inFlight(),
    waiting: fleet.waiting,
    ...tallyData(accounts.totals),
    retries_by_reason: Object.fromEntries(forwarder.retries),
    held_bytes: held.held,
    held_bytes_peak: held.peak,
    rss_bytes: process.memoryUsage.rss(),
    event_loop_lag_ms: lag(),
    servers: fleet.servers.map(serverData),
    accounts: [...accounts.open()].map(({ account, part, tally }) => ({
      account,
      part,
      ...tallyData(tally),
    })),
  };
}

function serverData(server: Server) {
  const { health } = server;
  return {
    id: server.id,
    url: server.url,
    standing: server.standing,
    ...(health.down !== undefined && { reason: health.down.reason }),
    in_flight: server.inFlight,
    max_in_flight: Number.isFinite(server.maxInFlight) ? server.maxInFlight : null,
    weight: server.weight,
    statuses: Object.fromEntries(server.statuses),
    ejections: server.ejections,
    deaths: server.deaths,
    engine: server.engine ?? null,
    ...tallyData(server.tally),
  };
}

/** As reports spell it. */
export function tallyData(tally: Tally): Counts {
  return {
    answered: tally.answered,
    refused: tally.refused,
    replayed: tally.replayed,
    abandoned: tally.abandoned,
    retries: tally.retries,
    prompt_tokens: tally.promptTokens,
    completion_tokens: tally.completionTokens,
    queue_s: seconds(tally.queueMs),
    service_s: seconds(tally.serviceMs),
  };
}

function seconds(ms: number): number {
  return Number((ms / 1000).toFixed(3));
}
