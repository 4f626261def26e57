import type { Backend } from "./control.ts";

/** Thrown when there is no server and none is expected. */
export class NoServerError extends Error {
  constructor() {
    super("No server is up and none is expected");
    this.name = "NoServerError";
  }
}

/** The servers that are up. A pick waits while there is none. */
export class Pool {
  #servers: readonly Backend[] = [];
  #expected = true;
  #turn = 0;
  #changed = Promise.withResolvers<void>();
  readonly #inFlight = new Map<string, number>();
  #waiting = 0;

  /** Requests that wait for a server. */
  get waiting(): number {
    return this.#waiting;
  }

  /** Replaces the whole list. */
  set(servers: readonly Backend[], expected: boolean): void {
    this.#servers = servers;
    this.#expected = expected;
    this.#changed.resolve();
    this.#changed = Promise.withResolvers();
  }

  /**
   * The server with the fewest requests in flight; ties take turns. Every pick must be released.
   * @throws {NoServerError} when there is none and none is expected; the signal's reason when it aborts while waiting.
   */
  async pick(signal: AbortSignal): Promise<Backend> {
    const aborted = Promise.withResolvers<never>();
    const abort = () => aborted.reject(signal.reason);
    aborted.promise.catch(() => {});
    signal.addEventListener("abort", abort, { once: true });
    this.#waiting += 1;
    try {
      for (;;) {
        signal.throwIfAborted();
        const server = this.#leastLoaded();
        if (server !== undefined) {
          this.#count(server, 1);
          return server;
        }
        if (!this.#expected) throw new NoServerError();
        await Promise.race([this.#changed.promise, aborted.promise]);
      }
    } finally {
      this.#waiting -= 1;
      signal.removeEventListener("abort", abort);
    }
  }

  release(server: Backend): void {
    this.#count(server, -1);
  }

  #leastLoaded(): Backend | undefined {
    let best: Backend | undefined;
    let bestLoad = Number.POSITIVE_INFINITY;
    this.#turn += 1;
    for (let i = 0; i < this.#servers.length; i++) {
      const server = this.#servers[(i + this.#turn) % this.#servers.length] as Backend;
      const load = this.#inFlight.get(server.url) ?? 0;
      if (load < bestLoad) [best, bestLoad] = [server, load];
    }
    return best;
  }

  #count({ url }: Backend, by: 1 | -1): void {
    const load = (this.#inFlight.get(url) ?? 0) + by;
    if (load === 0) this.#inFlight.delete(url);
    else this.#inFlight.set(url, load);
  }
}
