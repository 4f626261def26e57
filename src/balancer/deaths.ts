import type { Clock } from "../base/clock.ts";

/** The end of a server, with all that it was working on. */
export interface Death {
  readonly at: number;
}

interface Detained {
  readonly under: ReadonlySet<Death>;
  readonly acquit: () => void;
}

/**
 * Deaths of servers, as evidence: a request under which servers die is guilty, unless they also die without it.
 */
export class Deaths {
  readonly #clock: Clock;
  readonly #memoryMs: number;
  readonly #detained = new Set<Detained>();
  #log: Death[] = [];

  constructor(clock: Clock, memoryMs: number) {
    this.#clock = clock;
    this.#memoryMs = memoryMs;
  }

  record(): Death {
    const death = { at: this.#clock.monotonic() };
    this.#log = [...this.#recent(), death];
    for (const { under, acquit } of this.#detained) if (!under.has(death)) acquit();
    return death;
  }

  /** How many servers died lately, but not under a request that was there at these deaths. */
  without(under: ReadonlySet<Death>): number {
    return this.#recent().filter((death) => !under.has(death)).length;
  }

  /**
   * Waits for a server to die without the request.
   * @param signal ends the waiting
   * @returns false when none does within `waitMs`
   */
  async acquittal(
    under: ReadonlySet<Death>,
    waitMs: number,
    signal: AbortSignal,
  ): Promise<boolean> {
    const acquitted = new AbortController();
    const detained: Detained = { under, acquit: () => acquitted.abort() };
    this.#detained.add(detained);
    try {
      await this.#clock.sleep(waitMs, AbortSignal.any([signal, acquitted.signal]));
      return false;
    } catch (error) {
      signal.throwIfAborted();
      if (!acquitted.signal.aborted) throw error;
      return true;
    } finally {
      this.#detained.delete(detained);
    }
  }

  #recent(): Death[] {
    const from = this.#clock.monotonic() - this.#memoryMs;
    return this.#log.filter(({ at }) => at > from);
  }
}
