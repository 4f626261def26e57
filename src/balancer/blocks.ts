/** As much as one read brings at most. */
export const blockBytes = 64 << 10;
/** Free ones beyond these are left to the garbage collector. */
const maxFree = 512;

/**
 * Memory for bodies that is used again and again. Bodies in buffers of their own would be garbage so soon, and so much of it,
 * that the collector went through the whole heap several times a second.
 */
export class Blocks {
  readonly #free: Buffer[] = [];
  readonly #onGiven: (block: Buffer) => void;

  /** @param onGiven for tests: sees each block that nobody may use any more */
  constructor(onGiven: (block: Buffer) => void = () => {}) {
    this.#onGiven = onGiven;
  }

  take(): Buffer {
    return this.#free.pop() ?? Buffer.allocUnsafeSlow(blockBytes);
  }

  give(block: Buffer): void {
    this.#onGiven(block);
    if (this.#free.length < maxFree) this.#free.push(block);
  }
}

/** A body that is held, in blocks that are its own until it is released. */
export class HeldBody {
  readonly #blocks: Blocks;
  readonly #taken: Buffer[] = [];
  #size = 0;
  #room = 0;

  constructor(blocks: Blocks) {
    this.#blocks = blocks;
  }

  get size(): number {
    return this.#size;
  }

  /** @param bytes are copied */
  append(bytes: Buffer): void {
    for (let at = 0; at < bytes.length; ) {
      if (this.#room === 0) {
        this.#taken.push(this.#blocks.take());
        this.#room = blockBytes;
      }
      const block = this.#taken[this.#taken.length - 1] as Buffer;
      const copied = bytes.copy(block, blockBytes - this.#room, at);
      this.#room -= copied;
      this.#size += copied;
      at += copied;
    }
  }

  /** All bytes, in order. Not to be touched after `release`. */
  get chunks(): readonly Buffer[] {
    const last = this.#taken.length - 1;
    return this.#taken.map((block, n) =>
      n === last ? block.subarray(0, blockBytes - this.#room) : block,
    );
  }

  /** Nobody looks at it any more. More than once does no harm. */
  release(): void {
    for (const block of this.#taken) this.#blocks.give(block);
    this.#taken.length = 0;
    this.#size = 0;
    this.#room = 0;
  }
}
