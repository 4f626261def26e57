import { STATUS_CODES } from "node:http";
import type { Socket } from "node:net";
import type { AnswerHead } from "./answer-head.ts";
import { type Fields, renderFields } from "./fields.ts";
import type { RequestHead } from "./request-head.ts";

/** An answer that is held whole. */
export interface HeldAnswer {
  readonly head: AnswerHead;
  readonly chunks: readonly Buffer[];
  /** The body after a head in latin1, where its memory has room for that: the fewer pieces, the cheaper to write. */
  readonly chunksAfter?: (head: string) => readonly Buffer[];
  readonly size: number;
  /** Once it is sent, or not needed any more: its bytes are not held from then on. */
  readonly release: () => void;
}

/** What the client is told of how its answer came about. */
export interface Provenance {
  readonly request: number;
  readonly server: string;
  readonly attempts: number;
}

/** What an answer takes into account of its request. */
export type Asked = Pick<RequestHead, "method" | "minorVersion" | "keepAlive">;

const nothing = Buffer.alloc(0);

/** `waiting`: nothing is sent. `begun`: the head is. `ended`: all of it. `over`: the kernel has it, or the client is gone. */
type State = "waiting" | "begun" | "ended" | "over";

/** The answer to one request: sent whole, or begun and streamed; and whether the client still waits for it. */
export class Reply {
  readonly #socket: Socket;
  readonly #asked: Asked;
  readonly #finished: (reply: Reply) => void;
  #state: State = "waiting";
  #gone = false;
  #sent: HeldAnswer | undefined;
  #isChunked = false;
  /** No other request will follow on the connection. */
  isLast: boolean;
  /** The client has gone before it had its answer. */
  onGone: (() => void) | undefined;
  /** `write` may go on. */
  onDrain: (() => void) | undefined;
  /** It is over, one way or the other: nothing of the answer is needed any more. */
  onClosed: (() => void) | undefined;

  /** @param finished called when it is over, last of all */
  constructor(socket: Socket, asked: Asked, finished: (reply: Reply) => void) {
    this.#socket = socket;
    this.#asked = asked;
    this.#finished = finished;
    this.isLast = !asked.keepAlive;
  }

  get gone(): boolean {
    return this.#gone;
  }

  /** Nothing of an answer is sent yet. */
  get isWaiting(): boolean {
    return this.#state === "waiting";
  }

  /** All of the answer is sent, as far as the client takes it. */
  get isEnded(): boolean {
    return this.#state === "ended";
  }

  /** It is over: nothing of it is needed any more. */
  get isOver(): boolean {
    return this.#state === "over";
  }

  /** Sends an answer whole. */
  send(answer: HeldAnswer, provenance: Provenance): void {
    if (this.#gone) {
      answer.release();
      return;
    }
    const { head, size } = answer;
    const length = head.framing.kind === "none" ? "" : `Content-Length: ${size}\r\n`;
    const text = this.#renderAnswerHead(head, provenance, length);
    const pieces = answer.chunksAfter?.(text) ?? [Buffer.from(text, "latin1"), ...answer.chunks];
    const socket = this.#socket;
    this.#sent = answer;
    if (pieces.length === 1) socket.write(pieces[0] as Buffer);
    else {
      socket.cork();
      for (const piece of pieces) socket.write(piece);
      socket.uncork();
    }
    this.#end();
  }

  /** Sends the head of an answer, whose body follows by `write`. */
  begin(head: AnswerHead, provenance: Provenance): void {
    if (this.#gone) return;
    this.#state = "begun";
    const { framing } = head;
    let length = "";
    if (framing.kind === "length") length = `Content-Length: ${framing.bytes}\r\n`;
    else if (this.#asked.minorVersion === 0) this.isLast = true;
    else {
      this.#isChunked = true;
      length = "Transfer-Encoding: chunked\r\n";
    }
    this.#socket.write(this.#renderAnswerHead(head, provenance, length), "latin1");
  }

  /** @returns false when the client has enough for now: `onDrain` asks for more */
  write(chunk: Buffer): boolean {
    if (this.#gone) return true;
    const socket = this.#socket;
    if (!this.#isChunked) return socket.write(chunk);
    socket.cork();
    socket.write(`${chunk.length.toString(16)}\r\n`, "latin1");
    socket.write(chunk);
    const wantsMore = socket.write("\r\n", "latin1");
    socket.uncork();
    return wantsMore;
  }

  end(): void {
    if (this.#gone) return;
    if (this.#isChunked) this.#socket.write("0\r\n\r\n", "latin1");
    this.#end();
  }

  /** Ends an answer that was begun so that its client sees that it is not complete. */
  cut(): void {
    this.#socket.destroy();
  }

  /** An interim answer: the client's body may come, or simply that we are there. */
  sayContinue(): void {
    this.#socket.write("HTTP/1.1 100 Continue\r\n\r\n", "latin1");
  }

  /** A page of our own. */
  tell({ contentType, text }: { readonly contentType: string; readonly text: string }): void {
    this.#say("200 OK", ["Content-Type", contentType], text);
  }

  /** Our own word why there is no answer; where one has begun, its client sees that it is not complete. */
  refuse(status: number, message: string, fields: Fields = []): void {
    if (this.#gone) return;
    if (!this.isWaiting) {
      this.cut();
      return;
    }
    const text = JSON.stringify({ error: { message, type: "balancer", code: status } });
    this.#say(
      `${status} ${STATUS_CODES[status] ?? ""}`,
      ["Content-Type", "application/json", ...fields],
      text,
    );
  }

  /** The connection has ended. */
  close(): void {
    if (this.#state === "over") return;
    this.#gone = true;
    this.onGone?.();
    this.#finish();
  }

  #say(status: string, fields: Fields, text: string): void {
    const body = Buffer.from(text);
    const head = `HTTP/1.1 ${status}\r\n${renderFields(fields)}Content-Length: ${body.length}\r\n`;
    this.#socket.cork();
    this.#socket.write(`${head}${this.#renderConnection()}\r\n`, "latin1");
    if (this.#asked.method !== "HEAD") this.#socket.write(body);
    this.#socket.uncork();
    this.#end();
  }

  /** One field of our own, not three: each costs as much as a small part of the request. */
  #renderAnswerHead(head: AnswerHead, provenance: Provenance, length: string): string {
    const { status, reason, fields } = head;
    const { server, attempts, request } = provenance;
    const own = `X-LB: server=${server}; attempts=${attempts}; request=${request}\r\n`;
    return `HTTP/1.1 ${status} ${reason}\r\n${renderFields(fields)}${own}${length}${this.#renderConnection()}\r\n`;
  }

  #renderConnection(): string {
    if (this.isLast) return "Connection: close\r\n";
    return this.#asked.minorVersion === 0 ? "Connection: keep-alive\r\n" : "";
  }

  /** All is written: it is over as soon as the kernel has taken it. */
  #end(): void {
    this.#state = "ended";
    if (this.#socket.writableLength === 0) this.#finish();
    else this.#socket.write(nothing, () => this.#finish());
  }

  #finish(): void {
    if (this.#state === "over") return;
    this.#state = "over";
    this.#sent?.release();
    this.onClosed?.();
    this.#finished(this);
  }
}
