/** One of a number of places; whoever disposes of it gives it back, once. */
export interface Place extends Disposable {
  readonly number: number;
}

/** So many places, numbered from 0, in the order in which they are asked for. */
export class Places {
  readonly #free: number[];
  readonly #waiting = new Set<(place: Place) => void>();

  constructor(count: number) {
    this.#free = Array.from({ length: count }, (_, number) => number);
  }

  /** One that is free now. */
  takeFree(): Place | undefined {
    const number = this.#free.shift();
    return number === undefined ? undefined : this.#place(number);
  }

  /** @returns undefined when the signal aborts first. */
  async take(signal: AbortSignal): Promise<Place | undefined> {
    if (signal.aborted) return undefined;
    const free = this.takeFree();
    if (free !== undefined) return free;
    const { promise, resolve } = Promise.withResolvers<Place | undefined>();
    const giveUp = (): void => {
      this.#waiting.delete(resolve);
      resolve(undefined);
    };
    this.#waiting.add(resolve);
    signal.addEventListener("abort", giveUp, { once: true });
    return await promise.finally(() => signal.removeEventListener("abort", giveUp));
  }

  #place(number: number): Place {
    let isOurs = true;
    return {
      number,
      [Symbol.dispose]: () => {
        if (!isOurs) return;
        isOurs = false;
        this.#pass(number);
      },
    };
  }

  #pass(number: number): void {
    const [next] = this.#waiting;
    if (next === undefined) {
      this.#free.push(number);
      this.#free.sort((one, other) => one - other);
      return;
    }
    this.#waiting.delete(next);
    next(this.#place(number));
  }
}
