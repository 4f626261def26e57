import type { Place } from "./places.ts";
import type { SlotRoom } from "./slot-room.ts";

/**
 * A batch's way through a slot: it is prepared in a place of its own, asks the model once it has a slot, and gives each back
 * as soon as it needs it no longer. To score answers and to write them down takes no slot.
 */
export class Turn {
  readonly #room: SlotRoom;
  readonly #place: Place;
  readonly #yielding: AbortSignal;
  #asked: Promise<Place | undefined> | undefined;
  #slot: number | undefined;

  constructor(room: SlotRoom, place: Place, yielding: AbortSignal) {
    this.#room = room;
    this.#place = place;
    this.#yielding = yielding;
  }

  /** The slot, from when the batch got it on; also when it has given it back. */
  get slot(): number | undefined {
    return this.#slot;
  }

  /** Takes a slot that is free, or waits for one. @returns it; undefined: it is time to stop before it is ours. */
  async take(): Promise<number | undefined> {
    if (this.#asked === undefined) {
      this.#slot = undefined;
      this.#asked = this.#ask();
    }
    return (await this.#asked)?.number;
  }

  /** Another batch may be prepared. */
  endSoon(): void {
    if (this.#room.preparesAhead) this.#place[Symbol.dispose]();
  }

  /** There was no memory for more than one batch in each slot, it seems. */
  prepareNoMore(): void {
    this.#room.preparesAhead = false;
  }

  async #ask(): Promise<Place | undefined> {
    const slot = this.#room.slots.takeFree() ?? (await this.#room.slots.take(this.#yielding));
    this.#slot = slot?.number;
    return slot;
  }

  /** The model is asked nothing more, unless all fails and is begun again. */
  endAsking(): void {
    const asked = this.#asked;
    this.#asked = undefined;
    void asked?.then((slot) => slot?.[Symbol.dispose]());
  }

  end(): void {
    this.#place[Symbol.dispose]();
    this.endAsking();
  }
}
