import { createServer, type Server as NetServer } from "node:net";
import type { Clock } from "../base/clock.ts";
import type { Blocks } from "./blocks.ts";
import { ClientConnection, type ClientOwner } from "./client-connection.ts";
import { type Fields, kindOf, withoutNames } from "./fields.ts";
import { unfit } from "./forward.ts";
import type { HeldBytes } from "./held-bytes.ts";
import type { Answering } from "./journals.ts";
import type { Limits } from "./limits.ts";
import { listen } from "./listen.ts";
import type { Reply } from "./reply.ts";
import type { ForwardRequest } from "./request.ts";
import type { RequestBody } from "./request-body.ts";
import type { RequestHead } from "./request-head.ts";
import { Roster } from "./roster.ts";
import type { Page, Routes } from "./routes.ts";

export interface FrontDeps {
  readonly routes: Routes;
  readonly forwarder: Answering;
  readonly pages: (page: Page) => { readonly contentType: string; readonly text: string };
  readonly held: HeldBytes;
  readonly blocks: Blocks;
  readonly limits: Limits;
  readonly clock: Clock;
}

/** The side that clients see: decides what becomes of each request. */
export class Front implements ClientOwner, AsyncDisposable {
  readonly #deps: FrontDeps;
  readonly held: HeldBytes;
  readonly blocks: Blocks;
  readonly limits: Limits;
  readonly clock: Clock;
  readonly #server: NetServer;
  readonly #connections = new Roster<ClientConnection>();
  #requests = 0;
  #inFlight = 0;
  #draining = false;
  #drained: (() => void) | undefined;

  constructor(deps: FrontDeps) {
    this.#deps = deps;
    this.held = deps.held;
    this.blocks = deps.blocks;
    this.limits = deps.limits;
    this.clock = deps.clock;
    // A client may shut its own side after the request: that alone does not mean that it has gone.
    const options = { allowHalfOpen: true, noDelay: true, pauseOnConnect: true };
    this.#server = createServer(options, (socket) => {
      this.#connections.add(new ClientConnection(socket, this));
    });
  }

  /** Requests for servers that are not answered yet. */
  get inFlight(): number {
    return this.#inFlight;
  }

  /** @returns the port. @throws when none of the ports is free. */
  async listen(host: string, ports: readonly number[]): Promise<number> {
    return await listen(this.#server, host, ports);
  }

  /** Ends heads and bodies that come too slowly, answers that nobody takes, and connections that nobody uses. */
  tick(): void {
    const now = this.clock.monotonic();
    for (const connection of this.#connections.list()) connection.tick(now);
  }

  /** Takes no more requests, and waits until those that are here are answered or the signal aborts. */
  async drain(signal: AbortSignal): Promise<void> {
    this.#draining = true;
    this.#server.close();
    for (const connection of this.#connections.list()) if (connection.isIdle) connection.destroy();
    if (this.#inFlight === 0 || signal.aborted) return;
    await new Promise<void>((resolve) => {
      this.#drained = resolve;
      signal.addEventListener("abort", () => resolve(), { once: true });
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = new Promise((resolve) => this.#server.close(resolve));
    for (const connection of this.#connections.list()) connection.destroy();
    await closed;
  }

  serve(head: RequestHead, body: RequestBody, reply: Reply): void {
    const { routes, pages } = this.#deps;
    reply.onClosed = () => body.release();
    const target = routes.find(head.target, head.authorization);
    if (this.#draining) {
      reply.isLast = true;
      reply.refuse(503, "Going down", ["Retry-After", "5"]);
    } else if (target.kind === "forbidden") {
      reply.refuse(403, "The address belongs to somebody else");
    } else if (target.kind === "page") {
      reply.tell(pages(target.page));
    } else {
      const { path, tally, journal, dropsAuthorization } = target;
      const { method } = head;
      const id = ++this.#requests;
      const fields = dropsAuthorization ? withoutAuthorization(head.fields) : head.fields;
      this.#forward({ id, method, path, fields, body, tally, journal }, reply);
      return;
    }
    body.discard();
  }

  onClosed(connection: ClientConnection): void {
    this.#connections.delete(connection);
  }

  #forward(request: ForwardRequest, reply: Reply): void {
    const { body, tally } = request;
    this.#inFlight += 1;
    reply.onClosed = () => {
      body.release();
      this.#inFlight -= 1;
      if (this.#draining && this.#inFlight === 0) this.#drained?.();
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
}

function withoutAuthorization(fields: Fields): string[] {
  return withoutNames(fields, (name) => kindOf(name) === "authorization");
}
