import type { ServerResponse } from "node:http";
import type { AnswerHead } from "./answer-head.ts";
import type { Fields } from "./fields.ts";

/** An answer that is held whole. */
export interface HeldAnswer {
  readonly head: AnswerHead;
  readonly chunks: readonly Buffer[];
  readonly size: number;
  /** Once it is sent, or not needed any more: its bytes are not held from then on. */
  readonly release: () => void;
}

/** Up to here it is cheaper to copy a body than to write it apart from its head. */
const smallBytes = 16 << 10;

/** What the client is told of how its answer came about. */
export interface Provenance {
  readonly request: number;
  readonly server: string;
  readonly attempts: number;
}

/** The answer to one client: sent whole, or begun and streamed; and whether the client still waits for it. */
export class Reply {
  readonly #response: ServerResponse;
  #gone = false;
  #sent: HeldAnswer | undefined;
  /** The client has gone before it had its answer. */
  onGone: (() => void) | undefined;
  /** `write` may go on. */
  onDrain: (() => void) | undefined;
  /** It is over, one way or the other: nothing of the answer is needed any more. */
  onClosed: (() => void) | undefined;

  constructor(response: ServerResponse) {
    this.#response = response;
    // What servers say is passed on as it is: their date too, if they have one.
    response.sendDate = false;
    response.on("close", () => {
      if (!response.writableFinished) {
        this.#gone = true;
        this.onGone?.();
      }
      this.#sent?.release();
      this.onClosed?.();
    });
  }

  get gone(): boolean {
    return this.#gone;
  }

  /** Sends an answer whole. */
  send(answer: HeldAnswer, provenance: Provenance): void {
    if (this.#gone) {
      answer.release();
      return;
    }
    this.#sent = answer;
    const { head, chunks, size } = answer;
    const response = this.#response;
    const fields = fieldsFor(head, provenance);
    if (head.framing.kind !== "none") fields.push("Content-Length", String(size));
    response.writeHead(head.status, head.reason, fields);
    const [only] = chunks;
    if (only === undefined || (chunks.length === 1 && size <= smallBytes)) {
      // Node joins head and body into one write if both are text, and latin1 is any bytes as text.
      response.end(only?.toString("latin1"), "latin1");
      answer.release();
      return;
    }
    const last = chunks.length - 1;
    response.cork();
    for (let n = 0; n < last; n++) response.write(chunks[n]);
    response.end(chunks[last]);
    response.uncork();
  }

  /** Sends the head of an answer, whose body follows by `write`. */
  begin(head: AnswerHead, provenance: Provenance): void {
    if (this.#gone) return;
    const fields = fieldsFor(head, provenance);
    if (head.framing.kind === "length") fields.push("Content-Length", String(head.framing.bytes));
    this.#response.writeHead(head.status, head.reason, fields);
    this.#response.flushHeaders();
    this.#response.on("drain", () => this.onDrain?.());
  }

  /** @returns false when the client has enough for now: `onDrain` asks for more */
  write(chunk: Buffer): boolean {
    return this.#gone || this.#response.write(chunk);
  }

  end(): void {
    this.#response.end();
  }

  /** Ends an answer that was begun so that its client sees that it is not complete. */
  cut(): void {
    this.#response.destroy();
  }

  /** A page of our own. */
  tell({ contentType, text }: { readonly contentType: string; readonly text: string }): void {
    const length = String(Buffer.byteLength(text));
    this.#response.writeHead(200, ["Content-Type", contentType, "Content-Length", length]);
    this.#response.end(text);
  }

  /** Our own word why there is no answer. */
  refuse(status: number, message: string, fields: Fields = []): void {
    if (this.#gone) return;
    const body = JSON.stringify({ error: { message, type: "balancer", code: status } });
    const own = [
      "Content-Type",
      "application/json",
      "Content-Length",
      String(Buffer.byteLength(body)),
    ];
    this.#response.writeHead(status, [...own, ...fields]);
    this.#response.end(body);
  }
}

/** One field of our own, not three: each costs as much as a small part of the request. */
function fieldsFor({ fields }: AnswerHead, { server, attempts, request }: Provenance): string[] {
  return [...fields, "X-LB", `server=${server}; attempts=${attempts}; request=${request}`];
}
