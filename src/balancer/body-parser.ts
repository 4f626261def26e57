import { parseField } from "./field-line.ts";
import { MalformedMessageError } from "./malformed-message.ts";

/** How the end of a message's body is found. */
export type Framing =
  | { readonly kind: "none" }
  | { readonly kind: "length"; readonly bytes: number }
  | { readonly kind: "chunked" }
  | { readonly kind: "until-close" };

type State =
  | "length"
  | "until-close"
  | "chunk-size"
  | "chunk-data"
  | "chunk-end"
  | "trailer"
  | "done";

const maxLineBytes = 8 << 10;
const maxTrailers = 100;

/** Takes the body of a message out of its framing, whatever pieces its bytes come in. */
export class BodyParser {
  readonly #onData: (chunk: Buffer) => void;
  #state: State = "done";
  /** Bytes of a line that is not complete. */
  #partial: Buffer | undefined;
  /** Of the body, or of the chunk at hand. */
  #bytesLeft = 0;
  #trailers = 0;

  /** @param onData gets what `read` is given, without its framing and without copying it */
  constructor(onData: (chunk: Buffer) => void) {
    this.#onData = onData;
  }

  begin(framing: Framing): void {
    this.#partial = undefined;
    this.#trailers = 0;
    this.#bytesLeft = framing.kind === "length" ? framing.bytes : 0;
    if (framing.kind === "chunked") this.#state = "chunk-size";
    else if (framing.kind === "until-close") this.#state = "until-close";
    else this.#state = this.#bytesLeft > 0 ? "length" : "done";
  }

  get isComplete(): boolean {
    return this.#state === "done";
  }

  /**
   * Reads one piece of the body or of its framing; not to be called once it is complete.
   * @returns where the next one begins
   * @throws {MalformedMessageError}
   */
  read(chunk: Buffer, at: number): number {
    switch (this.#state) {
      case "length":
      case "chunk-data":
        return this.#readData(chunk, at);
      case "until-close":
        this.#onData(at === 0 ? chunk : chunk.subarray(at));
        return chunk.length;
      default:
        return this.#readLine(chunk, at);
    }
  }

  /** The connection has ended: so has a body that ends with it. */
  end(): void {
    if (this.#state === "until-close") this.#state = "done";
  }

  #readData(chunk: Buffer, at: number): number {
    const end = Math.min(chunk.length, at + this.#bytesLeft);
    this.#bytesLeft -= end - at;
    if (this.#bytesLeft === 0) this.#state = this.#state === "length" ? "done" : "chunk-end";
    this.#onData(at === 0 && end === chunk.length ? chunk : chunk.subarray(at, end));
    return end;
  }

  /** A chunk's size, the line end after its data, or a trailer. */
  #readLine(chunk: Buffer, at: number): number {
    const end = chunk.indexOf(10, at);
    const piece = chunk.subarray(at, end < 0 ? chunk.length : end + 1);
    const line = this.#partial === undefined ? piece : Buffer.concat([this.#partial, piece]);
    if (line.length > maxLineBytes) throw new MalformedMessageError("a line is too long");
    this.#partial = end < 0 ? Buffer.from(line) : undefined;
    if (end < 0) return chunk.length;
    const text = line.toString("latin1", 0, line.length - 2);
    if (line[line.length - 2] !== 13 || text.includes("\r")) {
      throw new MalformedMessageError("a line without its end");
    }
    this.#takeLine(text);
    return end + 1;
  }

  #takeLine(line: string): void {
    if (this.#state === "chunk-size") {
      this.#bytesLeft = parseChunkSize(line);
      this.#state = this.#bytesLeft === 0 ? "trailer" : "chunk-data";
    } else if (this.#state === "chunk-end") {
      if (line !== "") throw new MalformedMessageError("a chunk is longer than its size");
      this.#state = "chunk-size";
    } else if (line === "") {
      this.#state = "done";
    } else {
      parseField(line);
      if (++this.#trailers > maxTrailers) throw new MalformedMessageError("too many trailers");
    }
  }
}

/** RFC 9112 section 7.1: hexadecimal digits, and extensions that nobody needs. */
function parseChunkSize(line: string): number {
  const digits = /^([0-9A-Fa-f]{1,12})(?:[\t ]*;[\t\x20-\x7e\x80-\xff]*)?$/.exec(line)?.[1];
  if (digits === undefined) throw new MalformedMessageError("a chunk without a size");
  return Number.parseInt(digits, 16);
}
