/** As much as one read brings at most: all of a usual body, if it has come. */
export const readBytes = 256 << 10;
const blockBytes = 32 << 10;

/**
 * Memory for bodies that is used again and again. Bodies in buffers of their own would be garbage so soon, and so much of it,
 * that the collector went through the whole heap several times a second, and what it gave back would lie about in pieces.
 */
export class Blocks {
  readonly #free: Buffer[] = [];
  readonly #onGiven: (block: Buffer) => void;
  /** So many were free at any time since the last `trim`. */
  #spare = 0;

  /** @param onGiven for tests: sees each block that nobody may use any more */
  constructor(onGiven: (block: Buffer) => void = () => {}) {
    this.#onGiven = onGiven;
  }

  /** Bytes that are kept for bodies to come. */
  get freeBytes(): number {
    return this.#free.length * blockBytes;
  }

  take(): Buffer {
    const block = this.#free.pop() ?? Buffer.allocUnsafeSlow(blockBytes);
    if (this.#free.length < this.#spare) this.#spare = this.#free.length;
    return block;
  }

  give(block: Buffer): void {
    this.#onGiven(block);
    this.#free.push(block);
  }

  /** Leaves half of what nobody has needed since the last time to the garbage collector. */
  trim(): void {
    this.#free.splice(0, Math.ceil(this.#spare / 2));
    this.#spare = this.#free.length;
  }
}

/** Free before a body, for the head that is sent with it: one piece is cheaper to write than two. */
const headBytes = 2 << 10;

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
        this.#room = this.#taken.length === 0 ? blockBytes - headBytes : blockBytes;
        this.#taken.push(this.#blocks.take());
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
    return this.#cut(headBytes);
  }

  /** The same after a head, in latin1: together they are in as few pieces as possible. Not to be touched after `release`. */
  chunksAfter(head: string): readonly Buffer[] {
    const [first] = this.#taken;
    if (first === undefined || head.length > headBytes) {
      return [Buffer.from(head, "latin1"), ...this.chunks];
    }
    first.write(head, headBytes - head.length, "latin1");
    return this.#cut(headBytes - head.length);
  }

  /** @param from where what is wanted of the first block begins */
  #cut(from: number): readonly Buffer[] {
    const last = this.#taken.length - 1;
    return this.#taken.map((block, n) =>
      block.subarray(n === 0 ? from : 0, n === last ? blockBytes - this.#room : blockBytes),
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
