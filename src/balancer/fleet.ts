import type { Clock } from "../base/clock.ts";
import type { Logger } from "../base/log.ts";
import type { Backend } from "./control.ts";
import { Deaths } from "./deaths.ts";
import { type HealthEvent, nextHealth, type Standing } from "./health.ts";
import { Histogram } from "./histogram.ts";
import type { Limits } from "./limits.ts";
import { pick } from "./pick.ts";
import type { Prompts } from "./prompts.ts";
import type { Reply } from "./reply.ts";
import { Server } from "./server.ts";
import { Tally } from "./tally.ts";

/** What a request asks of the fleet. */
export interface PlaceWish {
  readonly reply: Reply;
  readonly tried: ReadonlySet<Server>;
  readonly suspect: boolean;
  /** Of its prompt, where servers are chosen by it. */
  readonly promptKey: string | undefined;
}

/** A request's place at a server: it counts as in flight there from now on, until it leaves. */
export interface Place {
  readonly server: Server;
  readonly waitedMs: number;
  readonly suspect: boolean;
}

/** `gone`: the client is. `no-server`: none is up, and none is expected in time. */
export type NoPlace = "gone" | "no-server";

interface Waiter {
  readonly wish: PlaceWish;
  readonly since: number;
  readonly settle: (place: Place | NoPlace) => void;
}

export interface FleetOptions {
  readonly limits: Limits;
  readonly clock: Clock;
  readonly log: Logger;
  /** Chooses servers by prompt, where that is asked for. */
  readonly prompts: Prompts | undefined;
  /** Looks after a server, until the signal aborts: it has left, and has nothing to do any more. */
  readonly watch: (server: Server, signal: AbortSignal) => Promise<void>;
}

/** What is to be expected besides the servers that are there. */
export interface FleetProspects {
  /** How long a request waits while none can be asked; 0: it is refused at once. */
  readonly waitMs: number;
  /** Servers that are not there, and may come back. Default: 0. */
  readonly missing?: number | undefined;
}

/** The servers, and the requests that wait for one. */
export class Fleet implements AsyncDisposable {
  readonly #options: FleetOptions;
  readonly deaths: Deaths;
  readonly queueWait = new Histogram();
  #servers: readonly Server[] = [];
  /** By the servers' ids: one that comes back, at whatever address, goes on counting. */
  readonly #tallies = new Map<string, Tally>();
  /** Of all servers, those included that are not on the list any more but still at work. */
  readonly #watches = new Map<
    Server,
    { readonly over: AbortController; readonly ended: Promise<void> }
  >();
  #waitMs = Number.POSITIVE_INFINITY;
  #missing = 0;
  #turn = 0;
  /** Requests that were at a server already, or may have killed one; then all others. Each in their order. */
  readonly #again = new Set<Waiter>();
  readonly #first = new Set<Waiter>();

  constructor(options: FleetOptions) {
    this.#options = options;
    this.deaths = new Deaths(options.clock, options.limits.deathMemoryMs);
  }

  get servers(): readonly Server[] {
    return this.#servers;
  }

  /** What requests at each server came to, by its id; those that have left included. */
  get tallies(): ReadonlyMap<string, Tally> {
    return this.#tallies;
  }

  /** Requests that wait for a server. */
  get waiting(): number {
    return this.#first.size + this.#again.size;
  }

  /**
   * Makes these the servers. One of the same id and URL stays as it is, with all that is known of it; one that is not named
   * any more gets no further requests, and may answer those that it has.
   */
  setServers(backends: readonly Backend[], { waitMs, missing = 0 }: FleetProspects): void {
    const { limits, clock, log } = this.#options;
    const before = new Map(this.#servers.map((server) => [keyOf(server), server]));
    const joined: Server[] = [];
    this.#servers = backends.map((backend) => {
      const known = before.get(keyOf(backend));
      before.delete(keyOf(backend));
      if (known !== undefined) {
        known.weight = backend.weight ?? 1;
        known.maxInFlight = backend.max_in_flight ?? Number.POSITIVE_INFINITY;
        return known;
      }
      const server = new Server(backend, this.#tallyOf(backend.id), limits, clock);
      joined.push(server);
      return server;
    });
    for (const server of before.values()) this.#dismiss(server);
    this.#waitMs = waitMs;
    this.#missing = missing;
    for (const server of joined) {
      log.info({ server: server.id, url: server.url }, "server joined");
      const over = new AbortController();
      this.#watches.set(server, { over, ended: this.#options.watch(server, over.signal) });
    }
    this.tick();
  }

  /** What time alone changes: attempts and waits that take too long, servers that were put out and may be tried again. */
  tick(): void {
    const now = this.#options.clock.monotonic();
    for (const { attempts, connections } of this.#watches.keys()) {
      connections.closeIdle();
      for (const attempt of attempts.list()) attempt.expire(now);
    }
    this.#serve();
    this.#refuseLate();
  }

  /** A place for a request, at once if there is one. */
  place(wish: PlaceWish): Place | Promise<Place | NoPlace> {
    const isAgain = wish.suspect || wish.tried.size > 0;
    if (isAgain || this.#first.size === 0) {
      const server = this.#pick(wish);
      if (server !== undefined) return this.#occupy(server, wish, 0);
    }
    return this.#wait(wish, isAgain ? this.#again : this.#first);
  }

  /** Gives a place back, once. */
  leave({ server, suspect }: Place): void {
    server.inFlight -= 1;
    if (suspect) server.suspects -= 1;
    if (server.leaving && server.inFlight === 0) this.#forget(server);
    this.#serve();
  }

  /** A server that this request has not been at can be asked at once. */
  hasOthers(tried: ReadonlySet<Server>): boolean {
    return this.#servers.some(
      (server) =>
        !tried.has(server) &&
        (server.standing === "ready" || server.standing === "trial") &&
        server.inFlight < server.maxInFlight,
    );
  }

  /** A server that is not one of these can't be asked now, and may be later. */
  hasDownBesides(servers: readonly Server[]): boolean {
    if (this.#missing > 0) return true;
    return this.#servers.some(
      (server) =>
        !servers.includes(server) && (server.standing === "down" || server.standing === "out"),
    );
  }

  /** Tells what has been seen of a server, and serves those that waited for it to get well. */
  report(server: Server, event: HealthEvent): void {
    const health = nextHealth(server.health, event, this.#options.clock.monotonic());
    if (health === server.health) return;
    const before = server.standing;
    const { outs } = server.health;
    server.health = health;
    if (health.outs > outs) server.ejections += 1;
    const now = server.standing;
    if (event.kind === "answered" || event.kind === "check-passed") server.seen = true;
    if (before === "down" && now !== "down") {
      server.death = undefined;
      server.doubtedSince = undefined;
    }
    if (now !== before) this.#logStanding(server, before, now, event);
    this.#serve();
  }

  /** It is being looked into whether the server lives: until that is known, others are better. */
  doubt(server: Server): void {
    server.doubts += 1;
    server.doubtedSince ??= this.#options.clock.monotonic();
  }

  /** Ends a doubt. */
  settle(server: Server, lives: boolean): void {
    server.doubts -= 1;
    if (lives && server.doubts === 0) server.doubtedSince = undefined;
    this.#serve();
  }

  /** The server is dead: `death` is what all that was in flight there has in common. */
  reportDeath(server: Server, reason: string): void {
    if (server.leaving || server.death !== undefined) return;
    server.death = this.deaths.record();
    server.deaths += 1;
    this.report(server, { kind: "unreachable", reason });
  }

  /** Another server passes its checks. */
  hasWellBesides(server: Server): boolean {
    return this.#servers.some(
      (other) => other !== server && other.standing === "ready" && other.health.failedChecks === 0,
    );
  }

  /** When any other server gave its last good answer. */
  othersAnsweredAt(server: Server): number {
    let at = Number.NEGATIVE_INFINITY;
    for (const other of this.#servers) if (other !== server) at = Math.max(at, other.answeredAt);
    return at;
  }

  /** Closes all connections, whatever they carry. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#servers = [];
    const watches = [...this.#watches];
    for (const [server, { over }] of watches) {
      server.connections.close();
      over.abort();
    }
    await Promise.all(watches.map(([, { ended }]) => ended));
  }

  /** Refuses those that have waited for too long while no server could be asked. */
  #refuseLate(): void {
    if (this.#waitMs === Number.POSITIVE_INFINITY || this.waiting === 0) return;
    if (this.#servers.some(({ standing }) => standing !== "down")) return;
    const latest = this.#options.clock.monotonic() - this.#waitMs;
    for (const waiters of [this.#again, this.#first]) {
      for (const waiter of waiters) {
        if (waiter.since > latest) continue;
        waiters.delete(waiter);
        waiter.settle("no-server");
      }
    }
  }

  #pick(wish: PlaceWish): Server | undefined {
    const { prompts } = this.#options;
    const seenBy = wish.promptKey === undefined ? undefined : prompts?.seenBy(wish.promptKey);
    this.#turn += 1;
    return pick(this.#servers, { tried: wish.tried, suspect: wish.suspect, seenBy }, this.#turn);
  }

  #occupy(server: Server, wish: PlaceWish, waitedMs: number): Place {
    if (wish.promptKey !== undefined) this.#options.prompts?.remember(wish.promptKey, server);
    this.queueWait.add(waitedMs);
    server.inFlight += 1;
    if (wish.suspect) server.suspects += 1;
    return { server, waitedMs, suspect: wish.suspect };
  }

  #wait(wish: PlaceWish, waiters: Set<Waiter>): Promise<Place | NoPlace> {
    return new Promise((resolve) => {
      const waiter: Waiter = {
        wish,
        since: this.#options.clock.monotonic(),
        settle: (place) => {
          wish.reply.onGone = undefined;
          resolve(place);
        },
      };
      waiters.add(waiter);
      wish.reply.onGone = () => {
        waiters.delete(waiter);
        waiter.settle("gone");
      };
      this.#refuseLate();
    });
  }

  /** Gives places to those that wait, as long as there are some. */
  #serve(): void {
    if (this.waiting === 0) return;
    for (const waiter of this.#again) this.#tryToServe(waiter, this.#again);
    // These wish for nothing special: when there is no place for one, there is none for the next.
    for (const waiter of this.#first) if (!this.#tryToServe(waiter, this.#first)) return;
  }

  #tryToServe(waiter: Waiter, waiters: Set<Waiter>): boolean {
    const server = this.#pick(waiter.wish);
    if (server === undefined) return false;
    waiters.delete(waiter);
    const waitedMs = this.#options.clock.monotonic() - waiter.since;
    waiter.settle(this.#occupy(server, waiter.wish, waitedMs));
    return true;
  }

  #tallyOf(id: string): Tally {
    const tally = this.#tallies.get(id) ?? new Tally();
    this.#tallies.set(id, tally);
    return tally;
  }

  #dismiss(server: Server): void {
    this.#options.log.info({ server: server.id, url: server.url }, "server left");
    server.leaving = true;
    server.connections.retire();
    if (server.inFlight === 0) this.#forget(server);
  }

  #forget(server: Server): void {
    this.#options.prompts?.forget(server);
    server.connections.close();
    this.#watches.get(server)?.over.abort();
    this.#watches.delete(server);
  }

  #logStanding(server: Server, before: Standing, now: Standing, event: HealthEvent): void {
    // Back-pressure comes and goes with every burst.
    if (before === "busy" || now === "busy") return;
    const reason = server.health.down?.reason ?? event.kind;
    const facts = { server: server.id, before, now, reason };
    if (now === "down" || now === "out") this.#options.log.warn(facts, "server not asked any more");
    else this.#options.log.info(facts, "server asked again");
  }
}

function keyOf({ id, url }: { readonly id: string; readonly url: string }): string {
  return `${id} ${url}`;
}
