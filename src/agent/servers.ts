import { type Counts, subtractCounts } from "../balancer/control.ts";
import { type Clock, systemClock } from "../base/clock.ts";
import type { EventBody, EventSink, EventSubject } from "../events/event.ts";
import type { BalancerClient, ChildPlace } from "./balancer-client.ts";
import { type Child, keepChild } from "./child.ts";
import { askHealth } from "./health.ts";
import { type NodeOrder, NodeReport, type ServerSpec } from "./node-protocol.ts";
import { type EchoedServer, findingsOf } from "./server-findings.ts";
import { publishReport, type ServerReport } from "./server-reports.ts";
import { newState, type ServerState, type ServersFailed } from "./server-state.ts";

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

/** Of a unit: what its servers are, and how they are. */
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
  return new UnitServers(options);
}

class UnitServers implements Servers {
  readonly #options: ServersOptions;
  readonly #clock: Clock;
  readonly #child: Child<NodeOrder>;
  readonly #closing = new AbortController();
  #assigned: Assignment | undefined;
  #disturbedAt = Number.NEGATIVE_INFINITY;
  /** Keys of what the node agent may still run. */
  readonly #alive = new Set<string>();
  #ended = Promise.withResolvers<void>();

  constructor(options: ServersOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    this.#child = keepChild<NodeOrder, NodeReport>({
      ...options.place,
      name: "node agent",
      args: options.agentArgs,
      parse: (line) => NodeReport.parse(line),
      greeting: () => [this.#order()],
      onReport: (report) => this.#hear(report),
      onEnd: () => this.#loseAll(),
      // Its servers get 10 s after the interrupt and 5 s more.
      closeGraceMs: 20_000,
    });
    this.#recordLoads().catch((error: unknown) => {
      if (!this.#closing.signal.aborted) options.place.onGivenUp(error as Error);
    });
  }

  assign(
    unit: string,
    specs: readonly ServerSpec[],
    timeoutS: number,
    onFailed: (failed: ServersFailed) => void,
  ): void {
    const before = this.#assigned?.states;
    const states = new Map(
      specs.map((spec) => {
        const known = before?.get(spec.key);
        const isKept = known !== undefined && known.givenUp === undefined;
        return [spec.key, isKept ? known : newState(spec)];
      }),
    );
    const servedBefore = this.#options.balancer.served();
    this.#assigned = { unit, specs, timeoutS, states, servedBefore, onFailed };
    for (const { key } of specs) this.#alive.add(key);
    this.#child.send(this.#order());
    this.#route();
  }

  async leave(): Promise<void> {
    if (this.#assigned === undefined) return;
    this.#assigned.onFailed = undefined;
    await this.#recordLoad(this.#assigned);
  }

  async stop(signal: AbortSignal): Promise<void> {
    this.#assigned = undefined;
    this.#child.send(this.#order());
    this.#route();
    const { promise: aborted, resolve } = Promise.withResolvers<void>();
    const abort = (): void => resolve();
    signal.addEventListener("abort", abort, { once: true });
    while (this.#alive.size > 0 && !signal.aborted) {
      await Promise.race([this.#ended.promise, aborted]);
    }
    signal.removeEventListener("abort", abort);
  }

  async disturbedSince(at: number): Promise<boolean> {
    const urls = this.#states.flatMap(({ url }) => url ?? []);
    if (this.#disturbedAt >= at || urls.length === 0) return true;
    // Looks at a server that runs come seldom: it may be ill, and nobody has seen it yet.
    const healths = await Promise.all(urls.map((url) => askHealth(url, never)));
    return healths.some(({ ok }) => !ok);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort();
    await this.#child[Symbol.asyncDispose]();
  }

  get #states(): readonly ServerState[] {
    return [...(this.#assigned?.states.values() ?? [])];
  }

  #order(): NodeOrder {
    const servers = this.#states.flatMap(({ spec, givenUp }) =>
      givenUp === undefined ? [spec] : [],
    );
    return { type: "servers", servers };
  }

  #route(): void {
    // One that was given up may still have said that it is healthy.
    const tried = this.#states.filter(({ givenUp }) => givenUp === undefined);
    const up = tried.flatMap(({ spec, url, identity }) =>
      url === undefined ? [] : [{ id: `${spec.server}`, url, identity }],
    );
    const identities = new Set(up.map(({ identity }) => identity));
    const [identity] = identities.size === 1 ? identities : [];
    const missing = tried.length - up.length;
    const timeoutS = this.#assigned?.timeoutS ?? 600;
    this.#options.balancer.route(
      up.map(({ id, url }) => ({ id, url })),
      { expected: true, missing, timeoutS, identity },
    );
  }

  #hear(report: NodeReport): void {
    if (report.type === "pong") return;
    if (report.type === "stopped" || report.type === "failed") this.#forget([report.key]);
    else this.#alive.add(report.key);
    const state = this.#assigned?.states.get(report.key);
    if (state === undefined) return;
    // The journal waits for a disk that is full; what it can't write at the end is its own error.
    publishReport(this.#options.events, this.#subject, report).catch(() => {});
    if (report.type === "healthy") this.#welcome(state, report);
    else this.#lose(state, report);
    this.#route();
    if (report.type === "down" && report.served) {
      void this.#countLife(state, report.reason, report.log_tail);
    }
    if (report.type === "failed") {
      const { reason, log_tail, unfit } = report;
      const failed = unfit === true ? "server-unfit" : "server-start";
      this.#giveUp(state, { class: failed, reason, logTail: log_tail });
    }
  }

  #welcome(state: ServerState, report: Extract<ServerReport, { type: "healthy" }>): void {
    if (!state.isTold) this.#warn(findingsOf(report, this.#othersThan(state)));
    state.isTold = true;
    state.echo = report.echo;
    // Asked before the balancer may use it.
    if (state.url === undefined) state.answeredBefore = this.#answeredBy(state);
    state.url = report.url;
    state.identity = report.identity;
    state.wasHealthy = true;
  }

  #lose(state: ServerState, report: Exclude<ServerReport, { type: "healthy" }>): void {
    if (report.type !== "starting" || state.wasHealthy) this.#disturb();
    state.url = undefined;
    if (report.type !== "unhealthy") Object.assign(state, { echo: undefined, isTold: false });
  }

  /** The node agent is gone, and its servers with it. */
  #loseAll(): void {
    this.#disturb();
    this.#forget(this.#alive);
    for (const state of this.#states) state.url = undefined;
    this.#route();
  }

  #disturb(): void {
    this.#disturbedAt = this.#clock.monotonic();
  }

  #forget(keys: Iterable<string>): void {
    for (const key of keys) this.#alive.delete(key);
    this.#ended.resolve();
    this.#ended = Promise.withResolvers();
  }

  /** The others go on without it; the last one's end is the end of all. */
  #giveUp(state: ServerState, failed: ServersFailed): void {
    const assigned = this.#assigned;
    if (assigned === undefined || assigned.states.get(state.spec.key) !== state) return;
    state.givenUp = failed;
    state.url = undefined;
    const { server } = state.spec;
    const { log } = this.#options.place;
    log.warn({ server, class: failed.class, reason: failed.reason }, "server given up");
    if (this.#states.every(({ givenUp }) => givenUp !== undefined)) {
      const { onFailed } = assigned;
      assigned.onFailed = undefined;
      onFailed?.(failed);
      return;
    }
    this.#child.send(this.#order());
    this.#route();
  }

  /** Sees how much a life of a server that was healthy was good for. */
  async #countLife(state: ServerState, reason: string, logTail: string[]): Promise<void> {
    const answered = (await this.#answeredBy(state)) - (await state.answeredBefore);
    if (this.#assigned?.states.get(state.spec.key) !== state) return;
    state.barrenLives = answered > 0 ? 0 : state.barrenLives + 1;
    if (state.barrenLives < Math.max(minBarrenLives, state.spec.start_attempts)) return;
    const lives = `it ended ${state.barrenLives} times in a row without answering a request`;
    this.#giveUp(state, { class: "server-crash-loop", reason: `${lives}: ${reason}`, logTail });
  }

  async #answeredBy({ spec }: ServerState): Promise<number> {
    return (await this.#options.balancer.served()).get(`${spec.server}`)?.answered ?? 0;
  }

  #othersThan(state: ServerState): EchoedServer[] {
    return this.#states.flatMap(({ spec, echo }) =>
      spec.key === state.spec.key || echo === undefined ? [] : [{ server: spec.server, echo }],
    );
  }

  #warn(findings: readonly EventBody<"server.warning">[]): void {
    const { events, place } = this.#options;
    for (const finding of findings) {
      place.log.warn(finding, "a server looks odd");
      events.publish("server.warning", this.#subject, finding).catch(() => {});
    }
  }

  get #subject(): EventSubject {
    const unit = this.#assigned?.unit;
    return { job: this.#options.job, ...(unit !== undefined && { unit }) };
  }

  async #recordLoads(): Promise<void> {
    for (;;) {
      await this.#clock.sleep(loadEveryMs, this.#closing.signal);
      if (this.#assigned?.onFailed !== undefined) await this.#recordLoad(this.#assigned);
    }
  }

  /** What the unit's requests came to at each server, and what the server says of itself. */
  async #recordLoad({ unit, specs, servedBefore }: Assignment): Promise<void> {
    const { balancer, events, job } = this.#options;
    const [before, now] = [await servedBefore, await balancer.served()];
    const written = specs.flatMap(({ server }) => {
      const counts = now.get(`${server}`);
      if (counts === undefined) return [];
      const served = subtractCounts(counts, before.get(`${server}`));
      const body = { server, served, engine: balancer.engines.get(`${server}`) ?? null };
      return [events.publish("server.load", { job, unit }, body)];
    });
    // What can't be written at the end is the journal's own error.
    await Promise.allSettled(written);
  }
}

const never = new AbortController().signal;
