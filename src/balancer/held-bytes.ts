/** A budget of bytes that may be held at the same time, all requests and answers together. */
export class HeldBytes {
  readonly #limit: number;
  /** What waits for room, in order, and how many bytes each. */
  readonly #waiting = new Map<() => void, number>();
  #held = 0;
  #peak = 0;

  constructor(limit: number) {
    this.#limit = limit;
  }

  get held(): number {
    return this.#held;
  }

  get peak(): number {
    return this.#peak;
  }

  /** Takes without asking: what is too small to matter. */
  take(bytes: number): void {
    this.#held += bytes;
    if (this.#held > this.#peak) this.#peak = this.#held;
  }

  /** @returns false when there is no room. */
  tryTake(bytes: number): boolean {
    if (this.#held + bytes > this.#limit) return false;
    this.take(bytes);
    return true;
  }

  /**
   * Takes them when there is room and nobody has waited longer. A reservation never waits when nothing is held, however
   * large it is: whoever has all that it needs can finish.
   * @returns true when they are taken already; else `go` is called once they are
   */
  reserve(bytes: number, go: () => void): boolean {
    if (this.#waiting.size === 0 && this.#hasRoom(bytes)) {
      this.take(bytes);
      return true;
    }
    this.#waiting.set(go, bytes);
    return false;
  }

  /** Stops waiting. */
  giveUp(go: () => void): void {
    this.#waiting.delete(go);
  }

  give(bytes: number): void {
    this.#held -= bytes;
    for (const [go, wanted] of this.#waiting) {
      if (!this.#hasRoom(wanted)) return;
      this.#waiting.delete(go);
      this.take(wanted);
      go();
    }
  }

  #hasRoom(bytes: number): boolean {
    return this.#held === 0 || this.#held + bytes <= this.#limit;
  }
}
