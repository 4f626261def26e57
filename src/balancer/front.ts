import {
  createServer,
  type Server as HttpServer,
  type IncomingMessage,
  type ServerResponse,
} from "node:http";
import type { Socket } from "node:net";
import type { Clock } from "../base/clock.ts";
import { type Fields, kindOf, withoutNames } from "./fields.ts";
import { unfit } from "./forward.ts";
import { askWhetherThere } from "./half-open.ts";
import type { HeldBytes } from "./held-bytes.ts";
import type { Answering } from "./journals.ts";
import type { Limits } from "./limits.ts";
import { listen } from "./listen.ts";
import { Reply } from "./reply.ts";
import type { ForwardRequest } from "./request.ts";
import { RequestBody } from "./request-body.ts";
import { readRequestHead } from "./request-head.ts";
import { Roster } from "./roster.ts";
import type { Page, Routes } from "./routes.ts";

export interface FrontDeps {
  readonly routes: Routes;
  readonly forwarder: Answering;
  readonly pages: (page: Page) => { readonly contentType: string; readonly text: string };
  readonly held: HeldBytes;
  readonly limits: Limits;
  readonly clock: Clock;
}

/** A client's connection. */
interface Seat {
  /** The latest one. */
  response: ServerResponse | undefined;
  /** Since the latest one ended. */
  idleSince: number;
  /** Since when all of its answer is here, and not all of it taken. */
  stuckSince: number | undefined;
}

/** The side that clients see: Node's HTTP server, which refuses what two parsers could read in two ways. */
export class Front implements AsyncDisposable {
  readonly #deps: FrontDeps;
  readonly #server: HttpServer;
  readonly #seats = new Map<Socket, Seat>();
  /** Of the requests that are not answered yet. */
  readonly #bodies = new Roster<RequestBody>();
  #requests = 0;
  #draining = false;
  #drained: (() => void) | undefined;

  constructor(deps: FrontDeps) {
    this.#deps = deps;
    const { limits, clock } = deps;
    this.#server = createServer(
      {
        insecureHTTPParser: false,
        headersTimeout: limits.headMs,
        connectionsCheckingInterval: Math.min(1_000, limits.headMs),
        // Bodies have their own limit, which knows that some are made to wait.
        requestTimeout: 0,
        // Ours, too: Node's takes a timer out and puts it back with every request.
        keepAliveTimeout: 0,
      },
      (incoming, response) => this.#serve(incoming, response),
    );
    // A client may shut its own side after the request: that alone does not mean that it has gone.
    Object.assign(this.#server, { httpAllowHalfOpen: true });
    this.#server.on("connection", (socket: Socket) => {
      const idleSince = clock.monotonic();
      const seat: Seat = { response: undefined, idleSince, stuckSince: undefined };
      this.#seats.set(socket, seat);
      socket.on("end", () => this.#ended(seat));
      socket.on("close", () => this.#seats.delete(socket));
    });
  }

  /** Requests for servers that are not answered yet. */
  get inFlight(): number {
    return this.#bodies.size;
  }

  /** @returns the port. @throws when none of the ports is free. */
  async listen(host: string, ports: readonly number[]): Promise<number> {
    return await listen(this.#server, host, ports);
  }

  /** Ends bodies that come too slowly, answers that nobody takes, and connections that nobody uses. */
  tick(): void {
    for (const body of this.#bodies.list()) if (body.isTooSlow) body.fail("too-slow");
    const { clock, limits } = this.#deps;
    const now = clock.monotonic();
    for (const [socket, seat] of this.#seats) {
      const { response, idleSince } = seat;
      if (response?.writableEnded !== true) continue;
      if (response.writableFinished) {
        if (now - idleSince > limits.clientIdleMs) socket.destroy();
      } else {
        seat.stuckSince ??= now;
        if (now - seat.stuckSince > limits.takeAnswerMs) socket.destroy();
      }
    }
  }

  /** Takes no more requests, and waits until those that are here are answered or the signal aborts. */
  async drain(signal: AbortSignal): Promise<void> {
    this.#draining = true;
    this.#server.close();
    this.#server.closeIdleConnections();
    if (this.#bodies.size === 0 || signal.aborted) return;
    await new Promise<void>((resolve) => {
      this.#drained = resolve;
      signal.addEventListener("abort", () => resolve(), { once: true });
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = new Promise((resolve) => this.#server.close(resolve));
    this.#server.closeAllConnections();
    await closed;
  }

  #serve(incoming: IncomingMessage, response: ServerResponse): void {
    const { routes, pages } = this.#deps;
    const { fields, length, authorization } = readRequestHead(
      incoming.rawHeaders,
      incoming.httpVersionMinor,
    );
    const body = new RequestBody(incoming, length === "unknown" ? "chunked" : length, this.#deps);
    const reply = this.#open(incoming, response, body);
    const target = routes.find(incoming.url ?? "", authorization);
    if (this.#draining) {
      reply.refuse(503, "Going down", ["Retry-After", "5", "Connection", "close"]);
    } else if (length === "unknown") {
      reply.refuse(501, "The transfer coding is not known here", ["Connection", "close"]);
    } else if (target.kind === "forbidden") {
      reply.refuse(403, "The address belongs to somebody else");
    } else if (target.kind === "page") {
      reply.tell(pages(target.page));
    } else {
      const { path, tally, journal, dropsAuthorization } = target;
      const id = ++this.#requests;
      const method = incoming.method ?? "GET";
      const passed = dropsAuthorization ? withoutAuthorization(fields) : fields;
      this.#forward({ id, method, path, fields: passed, body, tally, journal }, reply);
      return;
    }
    body.discard();
  }

  #open(incoming: IncomingMessage, response: ServerResponse, body: RequestBody): Reply {
    const reply = new Reply(response);
    const seat = this.#seats.get(incoming.socket);
    if (seat !== undefined) Object.assign(seat, { response, stuckSince: undefined });
    reply.onClosed = () => {
      body.release();
      if (seat !== undefined) seat.idleSince = this.#deps.clock.monotonic();
    };
    return reply;
  }

  #forward(request: ForwardRequest, reply: Reply): void {
    const { body, tally } = request;
    const { onClosed } = reply;
    this.#bodies.add(body);
    reply.onClosed = () => {
      onClosed?.();
      this.#bodies.delete(body);
      if (this.#draining) this.#closeDrained();
    };
    reply.onGone = () => body.abandon();
    body.receive((received) => {
      reply.onGone = undefined;
      if (received === "whole" || received === "large") {
        this.#deps.forwarder.forward(request, reply, () => body.discard());
      } else if (received === "gone") {
        tally.addAbandoned();
      } else {
        const status = received === "too-large" ? 413 : 408;
        tally.addAnswer(status, undefined);
        reply.refuse(status, unfit[received]);
        body.discard();
      }
    });
  }

  #closeDrained(): void {
    this.#server.closeIdleConnections();
    if (this.#bodies.size === 0) this.#drained?.();
  }

  /** A client has shut its side: its request may be in progress. */
  #ended({ response }: Seat): void {
    if (response === undefined || response.writableFinished) return;
    askWhetherThere(response, this.#deps.clock).catch(() => response.destroy());
  }
}

function withoutAuthorization(fields: Fields): string[] {
  return withoutNames(fields, (name) => kindOf(name) === "authorization");
}
