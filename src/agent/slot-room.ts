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
  #changed = Promise.withResolvers<void>();

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
    this.#changed.resolve();
    this.#changed = Promise.withResolvers();
  }

  /** Resolves when a lane has given up its batch: never for one that only looked, or idle ones would wake each other. */
  async change(): Promise<void> {
    await this.#changed.promise;
  }
}
