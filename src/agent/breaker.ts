import type { FailureClass } from "../lmeval/failure-class.ts";
import type { LeafId } from "../run/ids.ts";

/** Why a unit is given up. */
export interface Trip {
  readonly class: FailureClass;
  readonly leaves: readonly LeafId[];
  readonly reason: string;
}

/** Fewer in a row may be chance, however few slots there are. */
const leastLeaves = 5;

/** What a server or a machine that has gone bad makes of any leaf. The other classes lie in a leaf's own code and data. */
const surroundings: ReadonlySet<FailureClass> = new Set(["requests", "model", "memory"]);

/**
 * Sees when it is not the leaves that are at fault: several different ones fail with one class and none succeeds in
 * between. A class that lies in the leaves themselves counts only as long as no leaf of the unit has ever succeeded: after
 * that, it is these leaves. The number is the original's, its slots halved and rounded up, plus one, and at least five.
 */
export class Breaker {
  readonly #threshold: number;
  #class: FailureClass | undefined;
  #leaves = new Set<LeafId>();
  /** A leaf of the unit has succeeded, now or in another life. */
  #proven: boolean;

  constructor({ slots, proven }: { readonly slots: number; readonly proven: boolean }) {
    this.#threshold = Math.max(Math.floor((slots + 1) / 2) + 1, leastLeaves);
    this.#proven = proven;
  }

  succeeded(): void {
    this.#proven = true;
    this.#class = undefined;
    this.#leaves.clear();
  }

  /** @returns the trip when this failure is the one too many. */
  failed(leaf: LeafId, failureClass: FailureClass, message: string): Trip | undefined {
    if (failureClass !== this.#class) this.#leaves.clear();
    this.#class = failureClass;
    this.#leaves.add(leaf);
    if (this.#proven && !surroundings.has(failureClass)) return undefined;
    if (this.#leaves.size < this.#threshold) return undefined;
    return {
      class: failureClass,
      leaves: [...this.#leaves],
      reason: `${this.#leaves.size} different tasks failed in a row with "${failureClass}": ${message}`,
    };
  }
}
