import type { Clock } from "../base/clock.ts";
import type { Attempt } from "./attempt.ts";
import type { Origin } from "./connection.ts";
import { Connections } from "./connections.ts";
import type { Backend, Engine } from "./control.ts";
import type { Death } from "./deaths.ts";
import { freshHealth, type Health, type Standing, standingOf } from "./health.ts";
import { Histogram } from "./histogram.ts";
import type { Limits } from "./limits.ts";
import type { Candidate } from "./pick.ts";
import { Roster } from "./roster.ts";
import type { Tally } from "./tally.ts";

/** One server, what it is doing and how it is. Whoever changes `health` is the fleet. */
export class Server implements Candidate {
  readonly id: string;
  readonly url: string;
  readonly origin: Origin;
  /** What requests say in `Host`. */
  readonly host: string;
  readonly connections: Connections;
  readonly attempts = new Roster<Attempt>();
  readonly tally: Tally;
  readonly untilHead = new Histogram();
  readonly untilEnd = new Histogram();
  /** Answers by status. */
  readonly statuses = new Map<number, number>();
  weight: number;
  maxInFlight: number;
  inFlight = 0;
  suspects = 0;
  health: Health;
  /** When it gave its last good answer. */
  answeredAt = Number.NEGATIVE_INFINITY;
  /** It has shown that it lives. */
  seen = false;
  /** It is dead, and has been since. */
  death: Death | undefined;
  /** Failures that are being looked into, and when the first of them came; it stays when the server is found dead. */
  doubts = 0;
  doubtedSince: number | undefined;
  ejections = 0;
  deaths = 0;
  /** What it says of itself; undefined: nothing, or nothing that we know. */
  engine: Engine | undefined;
  /** The list does not name it any more. */
  leaving = false;
  readonly #clock: Clock;

  constructor(backend: Backend, tally: Tally, limits: Limits, clock: Clock) {
    this.tally = tally;
    const { hostname, port, host } = new URL(backend.url);
    this.id = backend.id;
    this.url = backend.url;
    // An IPv6 address has brackets in a URL only.
    this.origin = { host: hostname.replace(/^\[|\]$/g, ""), port: Number(port || 80) };
    this.host = host;
    this.weight = backend.weight ?? 1;
    this.maxInFlight = backend.max_in_flight ?? Number.POSITIVE_INFINITY;
    this.connections = new Connections(this.origin, limits, clock);
    this.health = freshHealth(clock.monotonic());
    this.#clock = clock;
  }

  get standing(): Standing {
    const { down, outUntil, busyUntil } = this.health;
    // The usual case, which needs no clock.
    if (down === undefined && outUntil === undefined && busyUntil === 0) return "ready";
    return standingOf(this.health, this.#clock.monotonic());
  }

  get doubted(): boolean {
    return this.doubts > 0;
  }

  countStatus(status: number): void {
    this.statuses.set(status, (this.statuses.get(status) ?? 0) + 1);
  }
}
