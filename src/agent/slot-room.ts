import { Places } from "./places.ts";

/** The slots of a unit, and who may take a batch from the queue for one of them. */
export class SlotRoom {
  /** A batch asks the model in one of these. */
  readonly slots: Places;
  /** Batches that are not nearly done have one of these: as many as there are slots. */
  readonly places: Places;
  /** A batch that is nearly done makes room for the next one. */
  preparesAhead = true;
  #busy = 0;
  #left = 0;
  readonly #idle = new Set<() => void>();

  constructor(slots: number) {
    this.slots = new Places(slots);
    this.places = new Places(slots);
  }

  /** Lanes that hold a batch: one that is idle can tell whether work may still come back from another. */
  get busy(): number {
    return this.#busy;
  }

  enter(): void {
    this.#busy += 1;
  }

  leave(): void {
    this.#busy -= 1;
    this.#left += 1;
    for (const wake of this.#idle) wake();
  }

  /** Batches that lanes have given up so far. Who only looked does not count, or idle ones would wake each other. */
  get left(): number {
    return this.#left;
  }

  /** Resolves when more than so many have been given up, and when the signal aborts: a lane that fails gives nothing up. */
  async moreLeft(than: number, signal: AbortSignal): Promise<void> {
    if (this.#left > than || signal.aborted) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    const wake = (): void => resolve();
    this.#idle.add(wake);
    signal.addEventListener("abort", wake, { once: true });
    await promise;
    signal.removeEventListener("abort", wake);
    this.#idle.delete(wake);
  }
}
