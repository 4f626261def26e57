import { Socket } from "node:net";
import { errnoName, messageOf } from "../base/errors.ts";
import { AnswerParser, type AnswerSink } from "./answer-parser.ts";
import { readBytes } from "./blocks.ts";
import { MalformedMessageError } from "./malformed-message.ts";

/** Where a server listens. */
export interface Origin {
  readonly host: string;
  readonly port: number;
}

/** Why no answer came over a connection. */
export interface Loss {
  /**
   * `refused`: nobody listens there. `unreachable`: no connection in time. `local`: this machine has no socket left.
   * `broken`: the connection ended. `malformed`: what came is no answer.
   */
  readonly kind: "refused" | "unreachable" | "local" | "broken" | "malformed";
  /** The connection had carried a request before and ended without a byte: most likely its server had closed it already. */
  readonly stale: boolean;
  /** Continues "the server …". */
  readonly reason: string;
}

/** Takes an answer, or why none came: either `onEnd` or `onLost` is called, once and last of all. */
export interface ConnectionSink extends AnswerSink {
  onLost(loss: Loss): void;
  /** A connection that was opened for this request is accepted. */
  onOpen(): void;
  /** The kernel has taken what it had refused: `write` may go on. */
  onDrain(): void;
}

export interface ConnectionOwner {
  /** An answer is complete and another request may follow. */
  onIdle(connection: Connection): void;
  onClosed(connection: Connection): void;
}

export interface SentRequest {
  readonly method: string;
  /** Request line and fields, in latin1, with the empty line that ends them. */
  readonly head: string;
  /** What there is of the body. */
  readonly body: readonly Buffer[];
  /** More of it follows by `write`. */
  readonly more: boolean;
}

/** This machine's own limits. */
const exhausted = new Set(["EMFILE", "ENFILE", "EADDRNOTAVAIL", "ENOBUFS", "ENOMEM"]);
/** Up to here head and body are copied into one piece: cheaper than a vectored write. */
const smallBytes = 16 << 10;
/** Small requests are put together in it. */
let scratch = Buffer.allocUnsafeSlow(smallBytes);

/** What any connection reads goes through it, one read at a time. */
const shared = Buffer.allocUnsafeSlow(readBytes);

/** One socket to a server: carries one request at a time, one after the other. */
export class Connection {
  readonly #origin: Origin;
  readonly #owner: ConnectionOwner;
  readonly #connectMs: number;
  readonly #socket: Socket;
  readonly #parser: AnswerParser;
  #sink: ConnectionSink | undefined;
  #connecting: NodeJS.Timeout | undefined;
  #closed = false;
  #answersBefore = 0;
  /** Bytes of the answer at hand have come. */
  #touched = false;
  #requestComplete = true;
  /** Since when it waits for a request, on its owner's clock. */
  idleSince = 0;

  constructor(origin: Origin, owner: ConnectionOwner, connectMs: number) {
    this.#origin = origin;
    this.#owner = owner;
    this.#connectMs = connectMs;
    this.#socket = new Socket({
      onread: {
        buffer: shared,
        callback: (bytes, buffer) => {
          this.#read((buffer as Buffer).subarray(0, bytes));
          return true;
        },
      },
    });
    this.#parser = new AnswerParser({
      onHead: (head) => this.#sink?.onHead(head),
      onData: (chunk) => this.#sink?.onData(chunk),
      onEnd: () => this.#complete(),
    });
  }

  /** Begins to connect; a request need not wait for it. */
  open(): void {
    const socket = this.#socket;
    socket.on("connect", () => this.#connected());
    socket.on("end", () => this.#readEnd());
    socket.on("error", (error) => this.#fail(error));
    socket.on("close", () => this.#lose("broken", "closed the connection"));
    socket.on("drain", () => this.#sink?.onDrain());
    this.#connecting = setTimeout(() => {
      this.#lose("unreachable", `did not accept a connection within ${this.#connectMs} ms`);
    }, this.#connectMs);
    socket.setNoDelay(true);
    socket.connect({ host: this.#origin.host, port: this.#origin.port });
  }

  /** Asks for an answer, which goes to `sink`. */
  send(request: SentRequest, sink: ConnectionSink): void {
    this.#sink = sink;
    this.#touched = false;
    this.#requestComplete = !request.more;
    this.#parser.begin(request.method);
    this.#write(request.head, request.body);
  }

  /** More of a request's body. @returns false when the kernel has enough: `onDrain` follows. */
  write(chunk: Buffer | string): boolean {
    return this.#socket.write(chunk as Buffer);
  }

  /** The last of a body that followed by `write` was written. */
  endRequest(): void {
    this.#requestComplete = true;
  }

  /** Nobody wants the answer any more: closing tells the server so. */
  close(): void {
    this.#sink = undefined;
    this.#close();
  }

  pause(): void {
    this.#socket.pause();
  }

  resume(): void {
    this.#socket.resume();
  }

  #write(head: string, body: readonly Buffer[]): void {
    const socket = this.#socket;
    let size = head.length;
    for (const chunk of body) size += chunk.length;
    if (size <= smallBytes) {
      let at = scratch.write(head, "latin1");
      for (const chunk of body) at += chunk.copy(scratch, at);
      socket.write(scratch.subarray(0, size));
      // The kernel has not taken all of it: it is the socket's from now on.
      if (socket.writableLength > 0) scratch = Buffer.allocUnsafeSlow(smallBytes);
    } else {
      socket.cork();
      socket.write(Buffer.from(head, "latin1"));
      for (const chunk of body) socket.write(chunk);
      socket.uncork();
    }
  }

  #connected(): void {
    clearTimeout(this.#connecting);
    this.#connecting = undefined;
    this.#sink?.onOpen();
  }

  #read(chunk: Buffer): void {
    // What a server says without being asked is about the connection, and nothing good.
    if (this.#sink === undefined) {
      this.#close();
      return;
    }
    this.#touched = true;
    try {
      this.#parser.push(chunk);
    } catch (error) {
      this.#misread(error);
    }
  }

  #readEnd(): void {
    try {
      if (this.#touched) this.#parser.end();
      else this.#lose("broken", "closed the connection");
    } catch (error) {
      this.#misread(error);
    }
  }

  #misread(error: unknown): void {
    if (!(error instanceof MalformedMessageError)) throw error;
    this.#lose("malformed", `answered, but its answer is malformed: ${error.message}`);
  }

  #complete(): void {
    const sink = this.#sink;
    this.#sink = undefined;
    this.#socket.resume();
    // A request that is still being written would be taken for the beginning of the next one.
    if (this.#parser.reusable && this.#requestComplete && this.#socket.writableLength === 0) {
      this.#answersBefore += 1;
      this.#owner.onIdle(this);
    } else {
      this.#close();
    }
    sink?.onEnd();
  }

  #fail(error: Error): void {
    const code = errnoName(error);
    const text = code ?? messageOf(error);
    if (exhausted.has(text)) this.#lose("local", `can't be asked: ${text}`);
    else if (this.#connecting === undefined) this.#lose("broken", `broke the connection: ${text}`);
    else if (code === "ECONNREFUSED") this.#lose("refused", "refuses connections");
    else this.#lose("unreachable", `can't be reached: ${text}`);
  }

  #lose(kind: Loss["kind"], reason: string): void {
    const sink = this.#sink;
    this.#sink = undefined;
    this.#close();
    const stale = kind === "broken" && this.#answersBefore > 0 && !this.#touched;
    sink?.onLost({ kind, stale, reason });
  }

  #close(): void {
    if (this.#closed) return;
    this.#closed = true;
    clearTimeout(this.#connecting);
    this.#parser.stop();
    this.#socket.destroy();
    this.#owner.onClosed(this);
  }
}
