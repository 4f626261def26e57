import { type Clock, systemClock } from "../base/clock.ts";
import type { EventSink } from "../events/event.ts";
import type { BalancerClient, ChildPlace } from "./balancer-client.ts";
import { type Child, keepChild } from "./child.ts";
import { type NodeOrder, NodeReport, type ServerSpec } from "./node-protocol.ts";

/** Why a unit's servers will not serve it any more. */
export interface ServersFailed {
  /** `server-start`: never healthy. `server-crash-loop`: it dies again and again without answering a request. */
  readonly class: "server-start" | "server-crash-loop";
  readonly reason: string;
  readonly logTail: readonly string[];
}

/** The servers of the unit at hand: kept by a node agent, reached through the balancer. */
export interface Servers extends AsyncDisposable {
  /**
   * Makes these the servers; others are stopped first, equal ones are kept. `onFailed` is told once when they can't serve.
   * @param unit whose events they cause
   */
  assign(
    unit: string,
    specs: readonly ServerSpec[],
    timeoutS: number,
    onFailed: (failed: ServersFailed) => void,
  ): void;
  /** Lets go of the unit; its servers run on until others are assigned. */
  leave(): void;
  /** True when a server, the node agent or the balancer was not well at some time since this instant (monotonic). */
  disturbedSince(at: number): boolean;
}

export interface ServersOptions {
  readonly place: ChildPlace;
  readonly agentArgs: readonly string[];
  readonly balancer: BalancerClient;
  readonly events: EventSink;
  readonly job: string;
  readonly clock?: Clock;
}

/** A server that dies so often in a row without an answered request in between is no use. */
const minBarrenLives = 3;
/** The balancer tells its counts four times a second. */
const countsLagMs = 600;

interface ServerState {
  readonly spec: ServerSpec;
  url: string | undefined;
  /** Requests answered when it became healthy. */
  answeredBefore: number;
  barrenLives: number;
  wasHealthy: boolean;
}

type ServerReport = Exclude<NodeReport, { type: "pong" }>;

interface Assignment {
  readonly unit: string;
  readonly specs: readonly ServerSpec[];
  readonly timeoutS: number;
  readonly states: Map<string, ServerState>;
  onFailed: ((failed: ServersFailed) => void) | undefined;
}

export function openServers(options: ServersOptions): Servers {
  const { balancer, events, clock = systemClock } = options;
  let assigned: Assignment | undefined;
  let disturbedAt = Number.NEGATIVE_INFINITY;
  const disturbed = () => {
    disturbedAt = clock.monotonic();
  };
  const order = (): NodeOrder => ({ type: "servers", servers: [...(assigned?.specs ?? [])] });
  const answered = () => balancer.totals?.answered ?? 0;

  const route = (): void => {
    const states = [...(assigned?.states.values() ?? [])];
    const up = states.flatMap(({ spec, url }) =>
      url === undefined ? [] : [{ id: `${spec.server}`, url }],
    );
    balancer.route(up, { expected: true, timeoutS: assigned?.timeoutS ?? 600 });
  };

  const fail = (failed: ServersFailed): void => {
    const tell = assigned?.onFailed;
    if (assigned !== undefined) assigned.onFailed = undefined;
    tell?.(failed);
  };

  const publish = (report: ServerReport): void => {
    const written = publishReport(events, { unit: assigned?.unit, job: options.job }, report);
    // The journal waits for a disk that is full; what it can't write at the end is its own error.
    written.catch(() => {});
  };

  async function countLife(state: ServerState, reason: string, logTail: string[]): Promise<void> {
    await clock.sleep(countsLagMs);
    if (assigned?.states.get(state.spec.key) !== state) return;
    state.barrenLives = answered() > state.answeredBefore ? 0 : state.barrenLives + 1;
    if (state.barrenLives < Math.max(minBarrenLives, state.spec.start_attempts)) return;
    const lives = `it ended ${state.barrenLives} times in a row without answering a request`;
    fail({ class: "server-crash-loop", reason: `${lives}: ${reason}`, logTail });
  }

  function hear(report: NodeReport): void {
    if (report.type === "pong") return;
    const state = assigned?.states.get(report.key);
    if (state === undefined) return;
    publish(report);
    if (report.type === "healthy") {
      state.url = report.url;
      state.wasHealthy = true;
      state.answeredBefore = answered();
    } else {
      if (report.type !== "starting" || state.wasHealthy) disturbed();
      state.url = undefined;
    }
    route();
    if (report.type === "down" && report.served) {
      countLife(state, report.reason, report.log_tail).catch(() => {});
    }
    if (report.type === "failed") {
      const { reason, log_tail } = report;
      fail({ class: "server-start", reason, logTail: log_tail });
    }
  }

  const child: Child<NodeOrder> = keepChild<NodeOrder, NodeReport>({
    ...options.place,
    name: "node agent",
    args: options.agentArgs,
    parse: (line) => NodeReport.parse(line),
    greeting: () => [order()],
    onReport: hear,
    onEnd: () => {
      disturbed();
      for (const state of assigned?.states.values() ?? []) state.url = undefined;
      route();
    },
    // Its servers get 10 s after the interrupt and 5 s more.
    closeGraceMs: 20_000,
  });

  return {
    assign: (unit, specs, timeoutS, onFailed) => {
      const before = assigned;
      const states = new Map(
        specs.map((spec) => [spec.key, before?.states.get(spec.key) ?? newState(spec)]),
      );
      assigned = { unit, specs, timeoutS, states, onFailed };
      child.send(order());
      route();
    },
    leave: () => {
      if (assigned !== undefined) assigned.onFailed = undefined;
    },
    disturbedSince: (at) => {
      const states = [...(assigned?.states.values() ?? [])];
      return disturbedAt >= at || states.every(({ url }) => url === undefined);
    },
    [Symbol.asyncDispose]: () => child[Symbol.asyncDispose](),
  };
}

function newState(spec: ServerSpec): ServerState {
  return { spec, url: undefined, answeredBefore: 0, barrenLives: 0, wasHealthy: false };
}

async function publishReport(
  events: EventSink,
  { unit, job }: { unit: string | undefined; job: string },
  report: ServerReport,
): Promise<void> {
  const subject = { job, ...(unit !== undefined && { unit }) };
  const { server } = report;
  switch (report.type) {
    case "starting": {
      const { start_attempt, port, log } = report;
      return await events.publish("server.starting", subject, { server, start_attempt, port, log });
    }
    case "healthy": {
      const { start_attempt, port, start_s } = report;
      const body = { server, start_attempt, port, start_s };
      return await events.publish("server.healthy", subject, body);
    }
    case "unhealthy":
      return await events.publish("server.unhealthy", subject, { server, reason: report.reason });
    case "down": {
      const reason = [report.reason, ...report.log_tail.slice(-3)].join("\n");
      return await events.publish("server.restarted", subject, { server, reason });
    }
    case "failed": {
      const { reason, log_tail } = report;
      return await events.publish("server.failed", subject, { server, reason, log_tail });
    }
    case "stopped":
      return;
  }
}
