import { type AnswerHead, parseAnswerHead } from "./answer-head.ts";
import { parseField } from "./field-line.ts";
import { MalformedAnswerError } from "./malformed-answer.ts";

/** Takes an answer: `onHead` once, `onData` any number of times, then `onEnd`. */
export interface AnswerSink {
  onHead(head: AnswerHead): void;
  /** @param chunk is used again after the call: what is kept of it must be copied */
  onData(chunk: Buffer): void;
  onEnd(): void;
}

type State =
  | "head"
  | "length"
  | "until-close"
  | "chunk-size"
  | "chunk-data"
  | "chunk-end"
  | "trailer"
  | "done"
  | "stopped";

/** What answers begin with: anything else is told at once, not when its head would end. */
const version = "HTTP/1.";
/** uvicorn's own limit is 64 KiB, and nobody needs that much. */
const maxHeadBytes = 64 << 10;
const maxLineBytes = 8 << 10;
const maxTrailers = 100;
const maxInterimAnswers = 100;

/**
 * Parses one answer after another from the bytes of a connection, whatever pieces they come in. Strict: a server that breaks
 * the rules of framing may have broken its body too, and another one can be asked.
 */
export class AnswerParser {
  readonly #sink: AnswerSink;
  #method = "";
  #state: State = "done";
  /** Bytes of a head, or of a line, that is not complete. */
  #partial: Buffer | undefined;
  #head: AnswerHead | undefined;
  /** Of the body, or of the chunk at hand. */
  #bytesLeft = 0;
  #interims = 0;
  #trailers = 0;
  #excess = false;

  constructor(sink: AnswerSink) {
    this.#sink = sink;
  }

  /** What comes next answers a request of this method. */
  begin(method: string): void {
    this.#method = method;
    this.#state = "head";
    this.#partial = undefined;
    this.#head = undefined;
    this.#interims = 0;
    this.#trailers = 0;
  }

  /** The answer is complete, and its server neither closes the connection nor has said more than the answer. */
  get reusable(): boolean {
    return this.#state === "done" && !this.#excess && this.#head?.keepAlive === true;
  }

  /** Nobody wants the rest of the answer, nor another one. */
  stop(): void {
    this.#state = "stopped";
  }

  /**
   * @param chunk is not kept
   * @throws {MalformedAnswerError} after which the parser is of no use
   */
  push(chunk: Buffer): void {
    if (!this.#isWithin) {
      this.#excess ||= chunk.length > 0;
      return;
    }
    let at = 0;
    while (at < chunk.length && this.#isWithin) {
      switch (this.#state) {
        case "head":
          at = this.#readHead(chunk, at);
          break;
        case "length":
        case "chunk-data":
          at = this.#readBody(chunk, at);
          break;
        case "until-close":
          this.#sink.onData(at === 0 ? chunk : chunk.subarray(at));
          return;
        default:
          at = this.#readLine(chunk, at);
      }
    }
    // Last of all: the sink may begin with the next answer.
    if (this.#state === "done") {
      this.#excess = at < chunk.length;
      this.#sink.onEnd();
    }
  }

  /** The connection has ended. @throws {MalformedAnswerError} when the answer has not. */
  end(): void {
    if (this.#state === "until-close") {
      this.#state = "done";
      this.#sink.onEnd();
    } else if (this.#isWithin) {
      throw new MalformedAnswerError(
        this.#state === "head" ? "it never came" : "it ends before its end",
      );
    }
  }

  get #isWithin(): boolean {
    return this.#state !== "done" && this.#state !== "stopped";
  }

  #readHead(chunk: Buffer, at: number): number {
    const before = this.#partial;
    const bytes = before === undefined ? chunk : Buffer.concat([before, chunk.subarray(at)]);
    const from = before === undefined ? at : 0;
    const end = bytes.indexOf("\r\n\r\n", Math.max(from, (before?.length ?? 0) - 3));
    if ((end < 0 ? bytes.length : end) - from > maxHeadBytes) {
      throw new MalformedAnswerError("its head is too long");
    }
    if (end < 0) {
      if (!version.startsWith(bytes.toString("latin1", from, from + version.length))) {
        throw new MalformedAnswerError("its status line");
      }
      this.#partial = before === undefined ? Buffer.from(chunk.subarray(at)) : bytes;
      return chunk.length;
    }
    this.#partial = undefined;
    const head = parseAnswerHead(bytes.toString("latin1", from, end), this.#method);
    this.#begin(head);
    return before === undefined ? end + 4 : at + end + 4 - before.length;
  }

  #begin(head: AnswerHead): void {
    if (head.status < 200) {
      // Switching protocols was not asked for.
      if (head.status === 101 || ++this.#interims > maxInterimAnswers) {
        throw new MalformedAnswerError(`status ${head.status}`);
      }
      return;
    }
    this.#head = head;
    const { framing } = head;
    if (framing.kind === "chunked") this.#state = "chunk-size";
    else if (framing.kind === "until-close") this.#state = "until-close";
    else {
      this.#bytesLeft = framing.kind === "length" ? framing.bytes : 0;
      this.#state = "length";
    }
    this.#sink.onHead(head);
    this.#endBody();
  }

  #readBody(chunk: Buffer, at: number): number {
    const end = Math.min(chunk.length, at + this.#bytesLeft);
    this.#bytesLeft -= end - at;
    const data = at === 0 && end === chunk.length ? chunk : chunk.subarray(at, end);
    this.#sink.onData(data);
    this.#endBody();
    return end;
  }

  #endBody(): void {
    if (this.#bytesLeft > 0) return;
    // Neither, when the sink has stopped us.
    if (this.#state === "length") this.#state = "done";
    else if (this.#state === "chunk-data") this.#state = "chunk-end";
  }

  /** A chunk's size, the line end after its data, or a trailer. */
  #readLine(chunk: Buffer, at: number): number {
    const end = chunk.indexOf(10, at);
    const piece = chunk.subarray(at, end < 0 ? chunk.length : end + 1);
    const line = this.#partial === undefined ? piece : Buffer.concat([this.#partial, piece]);
    if (line.length > maxLineBytes) throw new MalformedAnswerError("a line is too long");
    this.#partial = end < 0 ? Buffer.from(line) : undefined;
    if (end < 0) return chunk.length;
    const text = line.toString("latin1", 0, line.length - 2);
    if (line[line.length - 2] !== 13 || text.includes("\r")) {
      throw new MalformedAnswerError("a line without its end");
    }
    this.#takeLine(text);
    return end + 1;
  }

  #takeLine(line: string): void {
    if (this.#state === "chunk-size") {
      this.#bytesLeft = parseChunkSize(line);
      this.#state = this.#bytesLeft === 0 ? "trailer" : "chunk-data";
    } else if (this.#state === "chunk-end") {
      if (line !== "") throw new MalformedAnswerError("a chunk is longer than its size");
      this.#state = "chunk-size";
    } else if (line === "") {
      this.#state = "done";
    } else {
      parseField(line);
      if (++this.#trailers > maxTrailers) throw new MalformedAnswerError("too many trailers");
    }
  }
}

/** RFC 9112 section 7.1: hexadecimal digits, and extensions that nobody needs. */
function parseChunkSize(line: string): number {
  const digits = /^([0-9A-Fa-f]{1,12})(?:[\t ]*;[\t\x20-\x7e\x80-\xff]*)?$/.exec(line)?.[1];
  if (digits === undefined) throw new MalformedAnswerError("a chunk without a size");
  return Number.parseInt(digits, 16);
}
