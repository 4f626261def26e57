import { type Counts, subtractCounts } from "../balancer/control.ts";
import { type Clock, systemClock } from "../base/clock.ts";
import type { EventBody, EventSink } from "../events/event.ts";
import type { BalancerClient, ChildPlace } from "./balancer-client.ts";
import { type Child, keepChild } from "./child.ts";
import { askHealth } from "./health.ts";
import { type NodeOrder, NodeReport, type ServerSpec } from "./node-protocol.ts";
import { type EchoedServer, findingsOf } from "./server-findings.ts";

/** Why a unit's servers will not serve it any more. */
export interface ServersFailed {
  /**
   * `server-start`: never healthy. `server-unfit`: it can't do what the unit needs. `server-crash-loop`: it dies again and
   * again without answering a request.
   */
  readonly class: "server-start" | "server-unfit" | "server-crash-loop";
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
  /** Lets go of the unit; its servers run on until others are assigned. Resolves when it is recorded what they have done. */
  leave(): Promise<void>;
  /** Stops them all. Resolves when nothing of them is left, or the signal aborts. */
  stop(signal: AbortSignal): Promise<void>;
  /** True when a server or the node agent was not well at some time since this instant (monotonic), or is not now. */
  disturbedSince(at: number): Promise<boolean>;
}

export interface ServersOptions {
  readonly place: ChildPlace;
  readonly agentArgs: readonly string[];
  readonly balancer: BalancerClient;
  readonly events: EventSink;
  readonly job: string;
  readonly clock?: Clock;
}

/** A server that dies so often in a row without having answered a request in between is no use. */
const minBarrenLives = 3;
/** From one record of what servers do to the next. */
const loadEveryMs = 60_000;

interface ServerState {
  readonly spec: ServerSpec;
  url: string | undefined;
  /** Of servers that give equal answers. */
  identity: string;
  /** Requests that it had answered when it became healthy: what the balancer says of them comes a moment later. */
  answeredBefore: Promise<number>;
  barrenLives: number;
  wasHealthy: boolean;
  /** What the process at hand has answered to the probe; undefined: it has not been asked, or died. */
  echo: readonly number[] | undefined;
  /** The findings about the process at hand are recorded. */
  isTold: boolean;
  /** Why nobody tries it any more. */
  givenUp: ServersFailed | undefined;
}

type ServerReport = Exclude<NodeReport, { type: "pong" }>;

interface Assignment {
  readonly unit: string;
  readonly specs: readonly ServerSpec[];
  readonly timeoutS: number;
  readonly states: Map<string, ServerState>;
  /** What each had done before it was this unit's. */
  readonly servedBefore: Promise<ReadonlyMap<string, Counts>>;
  onFailed: ((failed: ServersFailed) => void) | undefined;
}

export function openServers(options: ServersOptions): Servers {
  const { balancer, events, clock = systemClock } = options;
  let assigned: Assignment | undefined;
  let disturbedAt = Number.NEGATIVE_INFINITY;
  const disturbed = () => {
    disturbedAt = clock.monotonic();
  };
  const order = (): NodeOrder => {
    const states = [...(assigned?.states.values() ?? [])];
    const servers = states.flatMap(({ spec, givenUp }) => (givenUp === undefined ? [spec] : []));
    return { type: "servers", servers };
  };
  /** Keys of what the node agent may still run. */
  const alive = new Set<string>();
  let ended = Promise.withResolvers<void>();
  const forget = (keys: Iterable<string>): void => {
    for (const key of keys) alive.delete(key);
    ended.resolve();
    ended = Promise.withResolvers();
  };

  const route = (): void => {
    const states = [...(assigned?.states.values() ?? [])];
    const up = states.flatMap(({ spec, url }) =>
      url === undefined ? [] : [{ id: `${spec.server}`, url }],
    );
    const identities = new Set(states.flatMap(({ url, identity }) => (url ? [identity] : [])));
    const [identity] = identities.size === 1 ? identities : [];
    balancer.route(up, { expected: true, timeoutS: assigned?.timeoutS ?? 600, identity });
  };

  /** The others go on without it; the last one's end is the end of all. */
  const giveUp = (state: ServerState, failed: ServersFailed): void => {
    if (assigned === undefined || assigned.states.get(state.spec.key) !== state) return;
    state.givenUp = failed;
    state.url = undefined;
    const { server } = state.spec;
    options.place.log.warn(
      { server, class: failed.class, reason: failed.reason },
      "server given up",
    );
    const { states, onFailed } = assigned;
    if ([...states.values()].every(({ givenUp }) => givenUp !== undefined)) {
      assigned.onFailed = undefined;
      onFailed?.(failed);
      return;
    }
    child.send(order());
    route();
  };

  const answeredBy = async ({ spec }: ServerState): Promise<number> =>
    (await balancer.served()).get(`${spec.server}`)?.answered ?? 0;

  const publish = (report: ServerReport): void => {
    const written = publishReport(events, { unit: assigned?.unit, job: options.job }, report);
    // The journal waits for a disk that is full; what it can't write at the end is its own error.
    written.catch(() => {});
  };

  const othersThan = (state: ServerState): EchoedServer[] =>
    [...(assigned?.states.values() ?? [])].flatMap(({ spec, echo }) =>
      spec.key === state.spec.key || echo === undefined ? [] : [{ server: spec.server, echo }],
    );

  const warn = (findings: readonly EventBody<"server.warning">[]): void => {
    const subject = { job: options.job, ...(assigned && { unit: assigned.unit }) };
    for (const finding of findings) {
      options.place.log.warn(finding, "a server looks odd");
      events.publish("server.warning", subject, finding).catch(() => {});
    }
  };

  /** Sees how much a life of a server that was healthy was good for. */
  async function countLife(state: ServerState, reason: string, logTail: string[]): Promise<void> {
    const answered = (await answeredBy(state)) - (await state.answeredBefore);
    if (assigned?.states.get(state.spec.key) !== state) return;
    state.barrenLives = answered > 0 ? 0 : state.barrenLives + 1;
    if (state.barrenLives < Math.max(minBarrenLives, state.spec.start_attempts)) return;
    const lives = `it ended ${state.barrenLives} times in a row without answering a request`;
    giveUp(state, { class: "server-crash-loop", reason: `${lives}: ${reason}`, logTail });
  }

  function hear(report: NodeReport): void {
    if (report.type === "pong") return;
    if (report.type === "stopped" || report.type === "failed") forget([report.key]);
    else alive.add(report.key);
    const state = assigned?.states.get(report.key);
    if (state === undefined) return;
    publish(report);
    if (report.type === "healthy") {
      const { url } = report;
      if (!state.isTold) warn(findingsOf(report, othersThan(state)));
      state.isTold = true;
      state.echo = report.echo;
      // Asked before the balancer may use it.
      if (state.url === undefined) state.answeredBefore = answeredBy(state);
      state.url = url;
      state.identity = report.identity;
      state.wasHealthy = true;
    } else {
      if (report.type !== "starting" || state.wasHealthy) disturbed();
      state.url = undefined;
      if (report.type !== "unhealthy") Object.assign(state, { echo: undefined, isTold: false });
    }
    route();
    if (report.type === "down" && report.served) {
      void countLife(state, report.reason, report.log_tail);
    }
    if (report.type === "failed") {
      const { reason, log_tail, unfit } = report;
      const failed = unfit === true ? "server-unfit" : "server-start";
      giveUp(state, { class: failed, reason, logTail: log_tail });
    }
  }

  /** What the unit's requests came to at each server, and what the server says of itself. */
  async function recordLoad({ unit, specs, servedBefore }: Assignment): Promise<void> {
    const [before, now] = [await servedBefore, await balancer.served()];
    const written = specs.flatMap(({ server }) => {
      const counts = now.get(`${server}`);
      if (counts === undefined) return [];
      const served = subtractCounts(counts, before.get(`${server}`));
      const body = { server, served, engine: balancer.engines.get(`${server}`) ?? null };
      return [events.publish("server.load", { job: options.job, unit }, body)];
    });
    // What can't be written at the end is the journal's own error.
    await Promise.allSettled(written);
  }

  const closing = new AbortController();
  async function recordLoads(): Promise<void> {
    for (;;) {
      await clock.sleep(loadEveryMs, closing.signal);
      if (assigned?.onFailed !== undefined) await recordLoad(assigned);
    }
  }
  recordLoads().catch((error: unknown) => {
    if (!closing.signal.aborted) options.place.onGivenUp(error as Error);
  });

  const child: Child<NodeOrder> = keepChild<NodeOrder, NodeReport>({
    ...options.place,
    name: "node agent",
    args: options.agentArgs,
    parse: (line) => NodeReport.parse(line),
    greeting: () => [order()],
    onReport: hear,
    onEnd: () => {
      disturbed();
      forget(alive);
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
        specs.map((spec) => {
          const known = before?.states.get(spec.key);
          const isKept = known !== undefined && known.givenUp === undefined;
          return [spec.key, isKept ? known : newState(spec)];
        }),
      );
      assigned = { unit, specs, timeoutS, states, servedBefore: balancer.served(), onFailed };
      for (const { key } of specs) alive.add(key);
      child.send(order());
      route();
    },
    leave: async () => {
      if (assigned === undefined) return;
      assigned.onFailed = undefined;
      await recordLoad(assigned);
    },
    stop: async (signal) => {
      assigned = undefined;
      child.send(order());
      route();
      const aborted = new Promise((resolve) => {
        signal.addEventListener("abort", resolve, { once: true });
      });
      while (alive.size > 0 && !signal.aborted) await Promise.race([ended.promise, aborted]);
    },
    disturbedSince: async (at) => {
      const urls = [...(assigned?.states.values() ?? [])].flatMap(({ url }) => url ?? []);
      if (disturbedAt >= at || urls.length === 0) return true;
      // Looks at a server that runs come seldom: it may be ill, and nobody has seen it yet.
      const healths = await Promise.all(urls.map((url) => askHealth(url, never)));
      return healths.some(({ ok }) => !ok);
    },
    [Symbol.asyncDispose]: async () => {
      closing.abort();
      await child[Symbol.asyncDispose]();
    },
  };
}

const never = new AbortController().signal;

function newState(spec: ServerSpec): ServerState {
  const answeredBefore = Promise.resolve(0);
  return {
    spec,
    url: undefined,
    identity: "",
    answeredBefore,
    barrenLives: 0,
    wasHealthy: false,
    echo: undefined,
    isTold: false,
    givenUp: undefined,
  };
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
