import type { Socket } from "node:net";
import { readInto } from "./accepted-socket.ts";
import { readBytes } from "./blocks.ts";
import { askWhetherThere } from "./half-open.ts";
import { MalformedMessageError } from "./malformed-message.ts";
import { Reply } from "./reply.ts";
import { type BodyDeps, type BodySource, RequestBody } from "./request-body.ts";
import type { RequestHead } from "./request-head.ts";
import { RequestParser } from "./request-parser.ts";
import type { Enrolled } from "./roster.ts";
import { UnacceptableRequestError } from "./unacceptable-request.ts";

export interface ClientOwner extends BodyDeps {
  /** A request has come, of which the body follows. It is to be answered by `reply`, unless the client goes. */
  serve(head: RequestHead, body: RequestBody, reply: Reply): void;
  onClosed(connection: ClientConnection): void;
}

/** A client that was told that this is the end may take so long to hear it. */
const farewellMs = 5_000;

/** What is known of a request that could not be read. */
const unreadable = { method: "", minorVersion: 1, keepAlive: false } as const;

/** What any client says goes through it, one read at a time. */
const shared = Buffer.allocUnsafeSlow(readBytes);

/** A client's socket: one request after the other, each answered before the next one is looked at. */
export class ClientConnection implements BodySource, Enrolled {
  rosterIndex = 0;
  readonly #socket: Socket;
  readonly #owner: ClientOwner;
  readonly #parser: RequestParser;
  /** Read from the socket, but not yet wanted. */
  #rest: Buffer | undefined;
  #isFeeding = false;
  #isPaused = false;
  #isFlowing = true;
  /** Of the request at hand. */
  #head: RequestHead | undefined;
  #body: RequestBody | undefined;
  #reply: Reply | undefined;
  /** The client has shut its side. */
  #isHalfOpen = false;
  #isClosed = false;
  /** Since when the next head is awaited; since when its beginning is here. */
  #idleSince: number;
  #headSince: number | undefined;
  /** Since when all of the answer is here, and not all of it taken. */
  #stuckSince: number | undefined;
  /** Since when nothing is read any more but the end. */
  #farewellSince: number | undefined;
  #requests = 0;

  /** @param accepted paused: nothing of it is read yet */
  constructor(accepted: Socket, owner: ClientOwner) {
    const socket = readInto(accepted, shared, (bytes) => this.#read(shared.subarray(0, bytes)));
    this.#socket = socket;
    this.#owner = owner;
    this.#idleSince = owner.clock.monotonic();
    this.#parser = new RequestParser({
      onHead: (head) => this.#begin(head),
      onData: (chunk) => this.#body?.take(chunk),
      onEnd: () => this.#complete(),
    });
    socket.on("end", () => this.#readEnd());
    socket.on("drain", () => this.#reply?.onDrain?.());
    // What it is about follows: the end of the connection.
    socket.on("error", () => {});
    socket.on("close", () => this.#close());
  }

  /** Between two requests, or before the first. */
  get isIdle(): boolean {
    return this.#reply === undefined && !this.#parser.isWithinHead;
  }

  /** Ends what takes too long. */
  tick(now: number): void {
    const { limits } = this.#owner;
    if (this.#farewellSince !== undefined) {
      if (now - this.#farewellSince > farewellMs) this.destroy();
    } else if (this.#reply === undefined) {
      this.#tickBetween(now);
    } else if (this.#reply.isEnded) {
      this.#stuckSince ??= now;
      if (now - this.#stuckSince > limits.takeAnswerMs) this.destroy();
    } else {
      this.#body?.tick();
    }
  }

  invite(): void {
    if (this.#head?.expectsContinue === true && this.#reply?.isWaiting === true) {
      this.#reply.sayContinue();
    }
  }

  pause(): void {
    this.#isPaused = true;
    this.#steer();
  }

  resume(): void {
    if (!this.#isPaused) return;
    this.#isPaused = false;
    this.#feed();
  }

  destroy(): void {
    this.#isPaused = true;
    this.#socket.destroy();
  }

  #tickBetween(now: number): void {
    const { headMs, clientIdleMs } = this.#owner.limits;
    if (this.#parser.isWithinHead) {
      this.#headSince ??= now;
      if (now - this.#headSince > headMs) this.#refuse(408, "The head came too slowly");
    } else if (now - this.#idleSince > (this.#requests === 0 ? headMs : clientIdleMs)) {
      this.destroy();
    }
  }

  #read(chunk: Buffer): void {
    if (this.#farewellSince !== undefined) return;
    this.#rest = this.#rest === undefined ? chunk : Buffer.concat([this.#rest, chunk]);
    this.#feed();
  }

  /** Gives the parser what it wants of what is here. */
  #feed(): void {
    // Whoever is called by the parser may want more of it: that goes on below.
    if (this.#isFeeding) return;
    this.#isFeeding = true;
    try {
      this.#parse();
    } catch (error) {
      this.#misread(error);
    } finally {
      this.#isFeeding = false;
    }
    this.#steer();
  }

  #parse(): void {
    const bytes = this.#rest;
    if (bytes === undefined) return;
    this.#rest = undefined;
    let at = 0;
    while (at < bytes.length && this.#isWanted) at = this.#parser.read(bytes, at);
    if (at < bytes.length && this.#farewellSince === undefined) {
      this.#rest = Buffer.from(bytes.subarray(at));
    }
  }

  get #isWanted(): boolean {
    return !this.#isPaused && this.#farewellSince === undefined && this.#parser.state !== "done";
  }

  /** Lets the socket read, or not. It reads on during a request that is complete: only so its client's end is seen. */
  #steer(): void {
    const flows = !this.#isPaused && this.#rest === undefined;
    if (this.#isFeeding || flows === this.#isFlowing) return;
    this.#isFlowing = flows;
    if (flows) this.#socket.resume();
    else this.#socket.pause();
  }

  #begin(head: RequestHead): void {
    const { framing } = head;
    this.#requests += 1;
    this.#headSince = undefined;
    this.#head = head;
    const length = framing.kind === "length" ? framing.bytes : undefined;
    const body = new RequestBody(this, length, this.#owner);
    const reply = new Reply(this.#socket, head, this.#onFinished);
    this.#body = body;
    this.#reply = reply;
    this.#owner.serve(head, body, reply);
  }

  /** The request is. */
  #complete(): void {
    this.#body?.end();
    // It was answered before.
    if (this.#reply?.isOver === true) this.#next();
  }

  readonly #onFinished = (reply: Reply): void => {
    if (reply !== this.#reply || this.#isClosed) return;
    this.#stuckSince = undefined;
    const isLast = reply.isLast || (this.#isHalfOpen && this.#rest === undefined);
    if (isLast) this.#sayFarewell();
    // Else the rest of the body comes first, though nobody wants it.
    else if (this.#parser.state === "done") this.#next();
  };

  #next(): void {
    this.#head = undefined;
    this.#body = undefined;
    this.#reply = undefined;
    this.#idleSince = this.#owner.clock.monotonic();
    this.#isPaused = false;
    this.#parser.next();
    this.#feed();
  }

  /** The client has shut its side: its request may be in progress. */
  #readEnd(): void {
    this.#isHalfOpen = true;
    const { state, isWithinHead } = this.#parser;
    if (isWithinHead) this.#refuse(400, "The head is not complete");
    else if (state === "body") this.destroy();
    else if (this.#reply === undefined) this.#sayFarewell();
    else if (this.#head?.minorVersion === 0) {
      // It does not know interim answers: there is no asking it whether it is there.
      if (this.#reply.isWaiting) this.destroy();
    } else {
      askWhetherThere(this.#reply, this.#owner.clock).catch(() => this.destroy());
    }
  }

  #misread(error: unknown): void {
    if (error instanceof UnacceptableRequestError) this.#refuse(error.status, error.message);
    else if (error instanceof MalformedMessageError) {
      this.#refuse(400, `The request is malformed: ${error.message}`);
    } else throw error;
  }

  /** What comes from the client can't be understood any more: it is told, if it can be, and that is the end. */
  #refuse(status: number, why: string): void {
    const reply = this.#reply;
    this.#reply = undefined;
    if (reply === undefined || reply.isWaiting) {
      reply?.close();
      new Reply(this.#socket, unreadable, () => {}).refuse(status, why);
      this.#sayFarewell();
    } else {
      this.destroy();
    }
  }

  /** Says that nothing more will come, and hears nothing more: only whether the client has closed its side, too. */
  #sayFarewell(): void {
    this.#farewellSince = this.#owner.clock.monotonic();
    this.#rest = undefined;
    this.#isPaused = false;
    this.#socket.end();
    this.#steer();
  }

  #close(): void {
    this.#isClosed = true;
    this.#rest = undefined;
    this.#reply?.close();
    this.#owner.onClosed(this);
  }
}
