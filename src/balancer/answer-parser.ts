import { type AnswerHead, parseAnswerHead } from "./answer-head.ts";
import { BodyParser } from "./body-parser.ts";
import { HeadReader } from "./head-reader.ts";
import { MalformedMessageError } from "./malformed-message.ts";

/** Takes an answer: `onHead` once, `onData` any number of times, then `onEnd`. */
export interface AnswerSink {
  onHead(head: AnswerHead): void;
  /** @param chunk is used again after the call: what is kept of it must be copied */
  onData(chunk: Buffer): void;
  onEnd(): void;
}

type State = "head" | "body" | "done" | "stopped";

/** What answers begin with: anything else is told at once, not when its head would end. */
const version = "HTTP/1.";
/** uvicorn's own limit is 64 KiB, and nobody needs that much. */
const maxHeadBytes = 64 << 10;
const maxInterimAnswers = 100;

/**
 * Parses one answer after another from the bytes of a connection, whatever pieces they come in. Strict: a server that breaks
 * the rules of framing may have broken its body too, and another one can be asked.
 */
export class AnswerParser {
  readonly #sink: AnswerSink;
  readonly #reader = new HeadReader(maxHeadBytes);
  readonly #body: BodyParser;
  #method = "";
  #state: State = "done";
  #head: AnswerHead | undefined;
  #interims = 0;
  #excess = false;

  constructor(sink: AnswerSink) {
    this.#sink = sink;
    this.#body = new BodyParser((chunk) => sink.onData(chunk));
  }

  /** What comes next answers a request of this method. */
  begin(method: string): void {
    this.#method = method;
    this.#state = "head";
    this.#reader.clear();
    this.#head = undefined;
    this.#interims = 0;
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
   * @throws {MalformedMessageError} after which the parser is of no use
   */
  push(chunk: Buffer): void {
    if (!this.#isWithin) {
      this.#excess ||= chunk.length > 0;
      return;
    }
    let at = 0;
    while (at < chunk.length && this.#isWithin) {
      if (this.#state === "head") at = this.#readHead(chunk, at);
      else {
        at = this.#body.read(chunk, at);
        this.#endBody();
      }
    }
    // Last of all: the sink may begin with the next answer.
    if (this.#state === "done") {
      this.#excess = at < chunk.length;
      this.#sink.onEnd();
    }
  }

  /** The connection has ended. @throws {MalformedMessageError} when the answer has not. */
  end(): void {
    if (!this.#isWithin) return;
    if (this.#state === "head") throw new MalformedMessageError("it never came");
    this.#body.end();
    this.#endBody();
    if (this.#isWithin) throw new MalformedMessageError("it ends before its end");
    this.#sink.onEnd();
  }

  get #isWithin(): boolean {
    return this.#state === "head" || this.#state === "body";
  }

  #readHead(chunk: Buffer, at: number): number {
    const end = this.#reader.read(chunk, at);
    if (end < 0) {
      const begun = this.#reader.partial?.toString("latin1", 0, version.length) ?? "";
      if (!version.startsWith(begun)) throw new MalformedMessageError("its status line");
      return chunk.length;
    }
    this.#begin(parseAnswerHead(this.#reader.text, this.#method));
    return end;
  }

  #begin(head: AnswerHead): void {
    if (head.status < 200) {
      // Switching protocols was not asked for.
      if (head.status === 101 || ++this.#interims > maxInterimAnswers) {
        throw new MalformedMessageError(`status ${head.status}`);
      }
      return;
    }
    this.#head = head;
    this.#state = "body";
    this.#body.begin(head.framing);
    this.#sink.onHead(head);
    this.#endBody();
  }

  #endBody(): void {
    // Not when the sink has stopped us.
    if (this.#state === "body" && this.#body.isComplete) this.#state = "done";
  }
}
