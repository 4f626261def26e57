import type { Clock } from "../base/clock.ts";
import { Connection, type ConnectionOwner, type Origin } from "./connection.ts";

export interface ConnectionTimes {
  readonly connectMs: number;
  /** An idle connection is closed after it: shorter than servers keep theirs (uvicorn: 5 s), or requests meet closed ones. */
  readonly idleMs: number;
}

/** The connections to one server. The one that was used last is used next, so that those beyond need come of age. */
export class Connections implements ConnectionOwner {
  readonly #origin: Origin;
  readonly #times: ConnectionTimes;
  readonly #clock: Clock;
  /** The longest idle one first. */
  readonly #idle: Connection[] = [];
  readonly #all = new Set<Connection>();
  #closing = false;

  constructor(origin: Origin, times: ConnectionTimes, clock: Clock) {
    this.#origin = origin;
    this.#times = times;
    this.#clock = clock;
  }

  /** For one request. @param fresh a new one, which its server can't have closed yet */
  take(fresh: boolean): Connection {
    if (!fresh) {
      const idle = this.#idle.pop();
      if (idle !== undefined) {
        if (this.#clock.monotonic() - idle.idleSince < this.#times.idleMs) return idle;
        this.#idle.push(idle);
        this.closeIdle();
      }
    }
    const connection = new Connection(this.#origin, this, this.#times.connectMs);
    this.#all.add(connection);
    connection.open();
    return connection;
  }

  onIdle(connection: Connection): void {
    connection.idleSince = this.#clock.monotonic();
    if (this.#closing) connection.close();
    else this.#idle.push(connection);
  }

  onClosed(connection: Connection): void {
    this.#all.delete(connection);
    const at = this.#idle.indexOf(connection);
    if (at >= 0) this.#idle.splice(at, 1);
  }

  /** Closes what has been idle for too long. */
  closeIdle(): void {
    const oldest = this.#clock.monotonic() - this.#times.idleMs;
    for (let first = this.#idle[0]; first !== undefined; first = this.#idle[0]) {
      if (first.idleSince > oldest) return;
      first.close();
    }
  }

  /** Closes the idle ones, and each other one after its answer. */
  retire(): void {
    this.#closing = true;
    for (const connection of [...this.#idle]) connection.close();
  }

  /** Closes them all, whatever they carry. */
  close(): void {
    this.#closing = true;
    for (const connection of [...this.#all]) connection.close();
  }
}
