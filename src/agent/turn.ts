import type { Place, Places } from "./places.ts";

/**
 * A batch's way through a slot: it is prepared in a place of its own, asks the model once it has a slot, and gives both back
 * as soon as it needs them no longer.
 */
export class Turn {
  readonly #slots: Places;
  readonly #place: Place;
  readonly #yielding: AbortSignal;
  #asked: Promise<Place | undefined> | undefined;
  #slot: number | undefined;

  constructor(slots: Places, place: Place, yielding: AbortSignal) {
    this.#slots = slots;
    this.#place = place;
    this.#yielding = yielding;
  }

  /** The slot, from when the batch got it on. */
  get slot(): number | undefined {
    return this.#slot;
  }

  /** Takes a slot that is free, or waits for one. @returns it; undefined: it is time to stop before it is ours. */
  async take(): Promise<number | undefined> {
    this.#asked ??= this.#ask();
    return (await this.#asked)?.number;
  }

  /** Another batch may be prepared. */
  endSoon(): void {
    this.#place[Symbol.dispose]();
  }

  async #ask(): Promise<Place | undefined> {
    const slot = this.#slots.takeFree() ?? (await this.#slots.take(this.#yielding));
    this.#slot = slot?.number;
    return slot;
  }

  /** The model is asked nothing more. */
  end(): void {
    this.endSoon();
    void this.#asked?.then((slot) => slot?.[Symbol.dispose]());
  }
}
