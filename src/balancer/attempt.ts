import type { Clock } from "../base/clock.ts";
import type { AnswerHead } from "./answer-head.ts";
import { type Blocks, HeldBody } from "./blocks.ts";
import type { Connection, ConnectionSink, Loss } from "./connection.ts";
import type { HeldBytes } from "./held-bytes.ts";
import { isCutShort } from "./json-end.ts";
import type { Limits } from "./limits.ts";
import type { HeldAnswer, Provenance, Reply } from "./reply.ts";
import { type ForwardRequest, frameBody, renderRequestHead } from "./request.ts";
import type { Enrolled } from "./roster.ts";
import type { Server } from "./server.ts";

/** How one attempt at one server ended. */
export type Outcome =
  | { readonly kind: "answer"; readonly answer: HeldAnswer }
  /** The client has got all of it already. `tail`: its end, as far as it is kept. */
  | { readonly kind: "streamed"; readonly status: number; readonly tail: readonly Buffer[] }
  /** The client has got a part of it: it can't be given another answer. */
  | { readonly kind: "cut"; readonly reason: string }
  | { readonly kind: "lost"; readonly loss: Loss }
  | { readonly kind: "timeout"; readonly afterMs: number }
  | { readonly kind: "taken-back" }
  /** The client is at fault: too much, or too slow. */
  | { readonly kind: "unfit"; readonly why: "too-large" | "too-slow" }
  | { readonly kind: "gone" };

/** What is tried, and where. */
export interface AttemptOptions {
  readonly server: Server;
  readonly request: ForwardRequest;
  readonly reply: Reply;
  readonly provenance: Provenance;
  readonly timeoutMs: number;
  /** On a connection that no other request has used. */
  readonly fresh: boolean;
}

/** What attempts have in common. */
export interface AttemptDeps {
  readonly limits: Limits;
  readonly held: HeldBytes;
  readonly blocks: Blocks;
  readonly clock: Clock;
}

/**
 * One request at one server. The answer is held until it is complete, so that a server may fail up to its last byte; one that is
 * too large for that, or a stream of events, goes to the client as it comes.
 */
export class Attempt implements ConnectionSink, Enrolled {
  rosterIndex = 0;
  readonly #options: AttemptOptions;
  readonly #deps: AttemptDeps;
  readonly startedAt: number;
  /** Called once. No promise: the usual request has nothing to wait for but its bytes, and a promise costs more than they do. */
  readonly #done: (attempt: Attempt, outcome: Outcome) => void;
  #connection: Connection | undefined;
  #over = false;
  #head: AnswerHead | undefined;
  readonly #body: HeldBody;
  /** Of `held`. */
  #taken = 0;
  /** From its first byte on: until then the request can go elsewhere, and a silent client can be asked whether it is there. */
  #isToStream = false;
  #streams = false;
  /** The end of what was streamed. */
  #tail: Buffer[] = [];

  constructor(
    options: AttemptOptions,
    deps: AttemptDeps,
    done: (attempt: Attempt, outcome: Outcome) => void,
  ) {
    this.#options = options;
    this.#deps = deps;
    this.#body = new HeldBody(deps.blocks);
    this.startedAt = deps.clock.monotonic();
    this.#done = done;
  }

  /** Sends the request. */
  start(): void {
    const { server, request, reply, fresh } = this.#options;
    server.attempts.add(this);
    reply.onGone = () => this.#end({ kind: "gone" });
    const { method, body } = request;
    // What can't be sent twice must not meet a connection that its server has closed.
    const connection = server.connections.take(fresh || !body.complete);
    this.#connection = connection;
    const head = renderRequestHead(request, server.host);
    connection.send({ method, head, body: frameBody(body), more: !body.complete }, this);
  }

  /** Ends it when its time is over. */
  expire(now: number): void {
    const { timeoutMs } = this.#options;
    if (now - this.startedAt >= timeoutMs) this.#end({ kind: "timeout", afterMs: timeoutMs });
  }

  /** The server shows no sign of life: another one shall have the request. */
  takeBack(): void {
    this.#end({ kind: "taken-back" });
  }

  onHead(head: AnswerHead): void {
    const { limits, clock } = this.#deps;
    this.#options.server.untilHead.add(clock.monotonic() - this.startedAt);
    this.#head = head;
    const { framing } = head;
    const isLarge = framing.kind === "length" && framing.bytes > limits.holdBytes;
    this.#isToStream = isFinal(head) && (isLarge || isEventStream(head));
  }

  onData(chunk: Buffer): void {
    if (!this.#streams && (this.#isToStream || !this.#hold(chunk))) {
      this.#stream(this.#head as AnswerHead);
    }
    if (this.#streams) this.#pass(chunk);
  }

  onEnd(): void {
    const head = this.#head as AnswerHead;
    if (this.#streams) {
      this.#options.reply.end();
      this.#end({ kind: "streamed", status: head.status, tail: this.#tail });
      return;
    }
    const { chunks, size } = this.#body;
    const chunksAfter = (text: string) => this.#body.chunksAfter(text);
    if (isCutShort(head, chunks)) {
      const reason = "answered, but its JSON ends before its end";
      this.#end({ kind: "lost", loss: { kind: "malformed", stale: false, reason } });
    } else {
      const release = () => this.#release();
      this.#end({ kind: "answer", answer: { head, chunks, size, chunksAfter, release } });
    }
  }

  onLost(loss: Loss): void {
    this.#end({ kind: "lost", loss });
  }

  onOpen(): void {
    // Until somebody has accepted the connection, all of the request is kept.
    if (this.#connection !== undefined && !this.#options.request.body.complete) {
      this.#followBody(this.#connection);
    }
  }

  onDrain(): void {
    const { body } = this.#options.request;
    if (!body.complete) body.resume();
  }

  #end(outcome: Outcome): void {
    if (this.#over) return;
    this.#over = true;
    const { server, request, reply } = this.#options;
    server.attempts.delete(this);
    reply.onGone = undefined;
    reply.onDrain = undefined;
    if (!request.body.complete) request.body.unfollow();
    const isComplete = outcome.kind === "answer" || outcome.kind === "streamed";
    if (!isComplete) this.#connection?.close();
    if (outcome.kind !== "answer") this.#release();
    this.#done(this, this.#streams && !isComplete ? cutOf(outcome) : outcome);
  }

  /** @returns false when there is no room for it. */
  #hold(chunk: Buffer): boolean {
    const { held, limits } = this.#deps;
    if (this.#taken + chunk.length > limits.holdBytes) return false;
    if (!held.tryTake(chunk.length)) return false;
    this.#taken += chunk.length;
    this.#body.append(chunk);
    return true;
  }

  /** Gives back what is held of the answer. */
  #release(): void {
    this.#body.release();
    this.#deps.held.give(this.#taken);
    this.#taken = 0;
  }

  #followBody(connection: Connection): void {
    const { body } = this.#options.request;
    const isChunked = body.length === undefined;
    body.follow({
      write: (chunk) => {
        if (!isChunked) return connection.write(chunk);
        connection.write(`${chunk.length.toString(16)}\r\n`);
        connection.write(chunk);
        return connection.write("\r\n");
      },
      end: () => {
        if (isChunked) connection.write("0\r\n\r\n");
        connection.endRequest();
      },
      fail: (why) => this.#end({ kind: "unfit", why }),
    });
  }

  /** From here on the client gets the answer as it comes. */
  #stream(head: AnswerHead): void {
    const { reply, provenance } = this.#options;
    this.#streams = true;
    reply.begin(head, provenance);
    reply.onDrain = () => this.#connection?.resume();
    for (const chunk of this.#body.chunks) this.#pass(chunk);
    this.#release();
  }

  #pass(chunk: Buffer): void {
    const kept = Buffer.from(chunk);
    // The last two may hold the token counts.
    this.#tail = [...this.#tail.slice(-1), kept];
    if (!this.#options.reply.write(kept)) this.#connection?.pause();
  }
}

/** What the client would get in any case: not an error that another server may not have. */
function isFinal({ status }: AnswerHead): boolean {
  return status < 500 && status !== 429;
}

function isEventStream({ contentType }: AnswerHead): boolean {
  return contentType !== undefined && /^text\/event-stream\b/i.test(contentType);
}

function cutOf(outcome: Outcome): Outcome {
  switch (outcome.kind) {
    case "lost":
      return { kind: "cut", reason: outcome.loss.reason };
    case "timeout":
      return { kind: "cut", reason: "took too long" };
    case "taken-back":
      return { kind: "cut", reason: "froze" };
    default:
      return outcome;
  }
}
