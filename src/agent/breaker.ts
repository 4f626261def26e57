import type { FailureClass } from "../lmeval/protocol.ts";
import type { LeafId } from "../run/ids.ts";

/** Why a unit is given up. */
export interface Trip {
  readonly class: FailureClass;
  readonly leaves: readonly LeafId[];
  readonly reason: string;
}

/**
 * Sees when it is not the leaves that are at fault: several different ones fail with one class and none succeeds in
 * between. The original's threshold: its slots, halved and rounded up, plus one.
 */
export class Breaker {
  readonly #threshold: number;
  #class: FailureClass | undefined;
  #leaves = new Set<LeafId>();

  constructor(slots: number) {
    this.#threshold = Math.floor((slots + 1) / 2) + 1;
  }

  succeeded(): void {
    this.#class = undefined;
    this.#leaves.clear();
  }

  /** @returns the trip when this failure is the one too many. */
  failed(leaf: LeafId, failureClass: FailureClass, message: string): Trip | undefined {
    if (failureClass !== this.#class) this.#leaves.clear();
    this.#class = failureClass;
    this.#leaves.add(leaf);
    if (this.#leaves.size < this.#threshold) return undefined;
    return {
      class: failureClass,
      leaves: [...this.#leaves],
      reason: `${this.#leaves.size} different tasks failed in a row with "${failureClass}": ${message}`,
    };
  }
}
