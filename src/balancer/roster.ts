/** What can be on a roster, on one at a time. */
export interface Enrolled {
  /** Where it is on the roster: the roster's own. */
  rosterIndex: number;
}

/**
 * A set for things that come and go with every request. V8's own sets are tables that point to their successors when they
 * have been rebuilt, and rebuilding is all that they do under such use: what was in them long ago stays in memory, and each
 * minor garbage collection copies it.
 */
export class Roster<T extends Enrolled> {
  readonly #all: T[] = [];

  get size(): number {
    return this.#all.length;
  }

  add(item: T): void {
    item.rosterIndex = this.#all.length;
    this.#all.push(item);
  }

  /** @param item one that is on the roster */
  delete(item: T): void {
    const last = this.#all.pop() as T;
    if (last === item) return;
    this.#all[item.rosterIndex] = last;
    last.rosterIndex = item.rosterIndex;
  }

  /** All, as they are now. */
  list(): readonly T[] {
    return [...this.#all];
  }
}
