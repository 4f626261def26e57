import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { errnoName } from "../base/errors.ts";
import { Accounts } from "./accounts.ts";
import { forwardedHeaders, type HeldAnswer, type HeldRequest, Upstream } from "./attempt.ts";
import { forward } from "./forward.ts";
import { Pool } from "./pool.ts";

export interface ProxyOptions {
  /** The first free one is taken; 0: any. */
  readonly ports: readonly number[];
  readonly token: string;
  readonly attemptTimeoutMs: number;
}

/** One address for all servers: `/eh/{token}/{a}/{b}/<path>` goes to `<path>` and is counted under account `a`. */
export interface RunningProxy extends AsyncDisposable {
  readonly port: number;
  readonly pool: Pool;
  readonly accounts: Accounts;
  readonly load: { inFlight: number; retries: number };
  attemptTimeoutMs: number;
}

/** Listens on loopback. @throws when none of the ports is free. */
export async function startProxy(options: ProxyOptions): Promise<RunningProxy> {
  const prefix = new RegExp(`^/eh/${options.token}/([^/]+)/[^/]+(/.*)$`);
  const upstream = new Upstream();
  const pool = new Pool();
  const accounts = new Accounts();
  const load = { inFlight: 0, retries: 0 };

  async function serve(incoming: IncomingMessage, response: ServerResponse): Promise<void> {
    const [, account, path] = prefix.exec(incoming.url ?? "") ?? [];
    if (account === undefined || path === undefined) return refuse(response);
    const gone = new AbortController();
    response.once("close", () => gone.abort(new Error("The client has gone")));
    load.inFlight += 1;
    try {
      const request = await hold(incoming, path);
      const answer = await forward(request, {
        pool,
        upstream,
        timeoutMs: proxy.attemptTimeoutMs,
        signal: gone.signal,
        onRetry: () => {
          load.retries += 1;
        },
      });
      accounts.add(account, answer.status, answer.body);
      send(response, answer);
    } finally {
      load.inFlight -= 1;
    }
  }

  const server = createServer((incoming, response) => {
    serve(incoming, response).catch(() => response.destroy());
  });
  // Clients keep idle connections for up to 15 s, and a request may wait for a server for an hour.
  server.keepAliveTimeout = 120_000;
  server.requestTimeout = 0;
  const port = await listen(server, options.ports);

  const proxy: RunningProxy = {
    port,
    pool,
    accounts,
    load,
    attemptTimeoutMs: options.attemptTimeoutMs,
    [Symbol.asyncDispose]: async () => {
      const closed = new Promise((resolve) => server.close(resolve));
      server.closeAllConnections();
      await closed;
      await upstream[Symbol.asyncDispose]();
    },
  };
  return proxy;
}

async function hold(incoming: IncomingMessage, path: string): Promise<HeldRequest> {
  const chunks: Buffer[] = [];
  for await (const chunk of incoming) chunks.push(chunk as Buffer);
  return {
    method: incoming.method ?? "GET",
    path,
    headers: forwardedHeaders(incoming.headers),
    body: Buffer.concat(chunks),
  };
}

function send(response: ServerResponse, { status, headers, body }: HeldAnswer): void {
  response.writeHead(status, { ...headers, "content-length": body.length });
  response.end(body);
}

function refuse(response: ServerResponse): void {
  response.writeHead(403, { "content-type": "application/json" });
  response.end('{"error":"this address belongs to a run of eval-hive"}');
}

async function listen(
  server: ReturnType<typeof createServer>,
  ports: readonly number[],
): Promise<number> {
  let lastError: unknown;
  for (const port of ports) {
    try {
      await new Promise<void>((resolve, reject) => {
        server.once("error", reject);
        server.listen(port, "127.0.0.1", () => {
          server.off("error", reject);
          resolve();
        });
      });
      return (server.address() as AddressInfo).port;
    } catch (error) {
      if (errnoName(error) !== "EADDRINUSE") throw error;
      lastError = error;
    }
  }
  throw lastError;
}
