import { MalformedMessageError } from "./malformed-message.ts";

const end = Buffer.from("\r\n\r\n");

/** Gathers the head of a message, first line and fields, from the bytes of a connection, whatever pieces they come in. */
export class HeadReader {
  readonly #maxBytes: number;
  /** Of a head that is not complete. */
  #partial: Buffer | undefined;
  /** The head that was read last, decoded as latin1, without the empty line that ends it. */
  text = "";

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /** What there is of a head that is not complete. */
  get partial(): Buffer | undefined {
    return this.#partial;
  }

  /** Forgets it. */
  clear(): void {
    this.#partial = undefined;
  }

  /**
   * @param chunk is not kept
   * @returns where in the chunk the head is over, which is `text` now; -1: it is not complete yet
   * @throws {MalformedMessageError} when it is too long
   */
  read(chunk: Buffer, at: number): number {
    const before = this.#partial;
    if (before === undefined) {
      const found = chunk.indexOf(end, at);
      this.#check((found < 0 ? chunk.length : found) - at);
      if (found < 0) this.#partial = Buffer.from(chunk.subarray(at));
      else this.text = chunk.toString("latin1", at, found);
      return found < 0 ? -1 : found + end.length;
    }
    const bytes = Buffer.concat([before, chunk.subarray(at)]);
    const found = bytes.indexOf(end, Math.max(0, before.length - 3));
    this.#check(found < 0 ? bytes.length : found);
    this.#partial = found < 0 ? bytes : undefined;
    if (found < 0) return -1;
    this.text = bytes.toString("latin1", 0, found);
    return at + found + end.length - before.length;
  }

  #check(bytes: number): void {
    if (bytes > this.#maxBytes) throw new MalformedMessageError("its head is too long");
  }
}
