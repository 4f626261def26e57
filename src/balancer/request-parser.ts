import { BodyParser } from "./body-parser.ts";
import { HeadReader } from "./head-reader.ts";
import { parseRequestHead, type RequestHead } from "./request-head.ts";

/** Takes a request: `onHead` once, `onData` any number of times, then `onEnd`. */
export interface RequestSink {
  onHead(head: RequestHead): void;
  /** @param chunk a part of what the parser was given */
  onData(chunk: Buffer): void;
  onEnd(): void;
}

/** As Node's own limit. */
const maxHeadBytes = 16 << 10;
const [lineFeed, carriageReturn] = [10, 13];

/** Parses one request after another from the bytes of a connection, whatever pieces they come in. */
export class RequestParser {
  readonly #sink: RequestSink;
  readonly #reader = new HeadReader(maxHeadBytes);
  readonly #body: BodyParser;
  #state: "head" | "body" | "done" = "head";

  constructor(sink: RequestSink) {
    this.#sink = sink;
    this.#body = new BodyParser((chunk) => sink.onData(chunk));
  }

  /** `head`: a request may come, or has begun to. `body`: it is not complete. `done`: it is, and `next` has not been called. */
  get state(): "head" | "body" | "done" {
    return this.#state;
  }

  /** A head has begun to come. */
  get isWithinHead(): boolean {
    return this.#state === "head" && this.#reader.partial !== undefined;
  }

  /** Another request may come after the one that is complete. */
  next(): void {
    this.#state = "head";
  }

  /**
   * Reads one piece of a request: its head, of its body, or of its framing. Not to be called between its end and `next`.
   * @param chunk is kept as far as the sink keeps it
   * @returns where what was not read begins
   * @throws {MalformedMessageError} after which the parser is of no use
   * @throws {UnacceptableRequestError} likewise
   */
  read(chunk: Buffer, at: number): number {
    if (this.#state === "head") return this.#readHead(chunk, at);
    const end = this.#body.read(chunk, at);
    this.#endBody();
    return end;
  }

  #readHead(chunk: Buffer, at: number): number {
    if (this.#reader.partial === undefined) {
      // RFC 9112 section 2.2: clients of old ended requests with an empty line too many.
      const first = chunk[at];
      if (first === carriageReturn || first === lineFeed) return at + 1;
    }
    const end = this.#reader.read(chunk, at);
    if (end < 0) return chunk.length;
    const head = parseRequestHead(this.#reader.text);
    this.#state = "body";
    this.#body.begin(head.framing);
    this.#sink.onHead(head);
    this.#endBody();
    return end;
  }

  #endBody(): void {
    if (!this.#body.isComplete) return;
    this.#state = "done";
    this.#sink.onEnd();
  }
}
