import { bucketsMs, type Histogram } from "./histogram.ts";
import type { Server } from "./server.ts";
import type { StatusSources } from "./status.ts";

type Labels = Readonly<Record<string, string | number>>;
type Sample = readonly [labels: Labels, value: number];

/** `/metrics`: the figures in Prometheus' text format, version 0.0.4. */
export function renderMetrics(sources: StatusSources): string {
  const { fleet, forwarder, held, inFlight, lag } = sources;
  const { servers } = fleet;
  const perServer = (value: (server: Server) => number): Sample[] =>
    servers.map((server) => [{ server: server.id }, value(server)]);
  const { totals } = sources.accounts;
  const { mean, max } = lag();
  return [
    family("lb_in_flight", "gauge", "Requests that are not answered yet", [[{}, inFlight()]]),
    family("lb_waiting", "gauge", "Requests that wait for a server", [[{}, fleet.waiting]]),
    family("lb_requests_total", "counter", "Requests by how they ended", [
      [{ end: "answered" }, totals.answered],
      [{ end: "refused" }, totals.refused],
      [{ end: "abandoned" }, totals.abandoned],
      [{ end: "replayed" }, totals.replayed],
    ]),
    family("lb_tokens_total", "counter", "Tokens as servers count them", [
      [{ kind: "prompt" }, totals.promptTokens ?? 0],
      [{ kind: "completion" }, totals.completionTokens ?? 0],
    ]),
    family(
      "lb_retries_total",
      "counter",
      "Attempts beyond the first",
      [...forwarder.retries].map(([reason, count]) => [{ reason }, count]),
    ),
    family("lb_held_bytes", "gauge", "Bodies that are held", [[{}, held.held]]),
    family("lb_event_loop_lag_seconds", "gauge", "Since the last look", [
      [{ of: "mean" }, mean / 1000],
      [{ of: "max" }, max / 1000],
    ]),
    histograms("lb_queue_wait_seconds", "Waiting for a server", [[{}, fleet.queueWait]]),
    family(
      "lb_server_up",
      "gauge",
      "1: requests go there",
      perServer(({ standing }) => (standing === "down" || standing === "out" ? 0 : 1)),
    ),
    family(
      "lb_server_in_flight",
      "gauge",
      "Requests in flight there",
      perServer((server) => server.inFlight),
    ),
    family(
      "lb_server_answers_total",
      "counter",
      "Answers by status",
      servers.flatMap(({ id, statuses }) =>
        [...statuses].map(([code, count]): Sample => [{ server: id, code }, count]),
      ),
    ),
    family(
      "lb_server_retries_total",
      "counter",
      "Attempts there that had to be repeated",
      perServer(({ tally }) => tally.retries),
    ),
    family(
      "lb_server_abandoned_total",
      "counter",
      "Attempts there whose clients went",
      perServer(({ tally }) => tally.abandoned),
    ),
    family(
      "lb_server_ejections_total",
      "counter",
      "How often it was put out",
      perServer((server) => server.ejections),
    ),
    family(
      "lb_server_deaths_total",
      "counter",
      "How often it died",
      perServer((server) => server.deaths),
    ),
    ...engineFigures.map(([name, help, figure]) =>
      family(
        name,
        "gauge",
        help,
        servers.flatMap(({ id, engine }): Sample[] => {
          const value = engine?.[figure] ?? null;
          return value === null ? [] : [[{ server: id }, value]];
        }),
      ),
    ),
    histograms(
      "lb_server_head_seconds",
      "Until the head of an answer",
      servers.map((server) => [{ server: server.id }, server.untilHead]),
    ),
    histograms(
      "lb_server_seconds",
      "Until the end of an attempt",
      servers.map((server) => [{ server: server.id }, server.untilEnd]),
    ),
  ].join("");
}

/** What servers say of themselves, under one name whatever they call it. */
const engineFigures = [
  ["lb_engine_running", "Requests that the server works on", "running"],
  ["lb_engine_waiting", "Requests that wait inside the server", "waiting"],
  ["lb_engine_cache_use", "Share of its key-value cache that is in use", "cache_use"],
  ["lb_engine_prompt_tokens_per_second", "At its last readings", "prompt_tokens_per_s"],
  ["lb_engine_completion_tokens_per_second", "At its last readings", "completion_tokens_per_s"],
] as const;

function family(
  name: string,
  type: "gauge" | "counter",
  help: string,
  samples: readonly Sample[],
): string {
  const lines = samples.map(([labels, value]) => `${name}${renderLabels(labels)} ${value}\n`);
  return `# HELP ${name} ${help}\n# TYPE ${name} ${type}\n${lines.join("")}`;
}

function histograms(
  name: string,
  help: string,
  all: readonly (readonly [Labels, Histogram])[],
): string {
  const lines = all.map(([labels, histogram]) => renderHistogram(name, labels, histogram));
  return `# HELP ${name} ${help}\n# TYPE ${name} histogram\n${lines.join("")}`;
}

function renderHistogram(name: string, labels: Labels, { counts, sumMs, count }: Histogram) {
  let below = 0;
  const buckets = bucketsMs.map((bound, n) => {
    below += counts[n] as number;
    return `${name}_bucket${renderLabels({ ...labels, le: bound / 1000 })} ${below}\n`;
  });
  const end = renderLabels(labels);
  return [
    ...buckets,
    `${name}_bucket${renderLabels({ ...labels, le: "+Inf" })} ${count}\n`,
    `${name}_sum${end} ${sumMs / 1000}\n`,
    `${name}_count${end} ${count}\n`,
  ].join("");
}

function renderLabels(labels: Labels): string {
  const pairs = Object.entries(labels).map(
    ([name, value]) => `${name}="${escapeLabel(String(value))}"`,
  );
  return pairs.length === 0 ? "" : `{${pairs.join(",")}}`;
}

function escapeLabel(value: string): string {
  return value.replace(/\\/g, "\\\\").replace(/"/g, '\\"').replace(/\n/g, "\\n");
}
