import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

export interface Asked {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly body: string;
  /** Its connection to us was closed. */
  gone: boolean;
}

/**
 * A server inside the test, and what it was asked; health checks, which are always passed, do not count, nor do looks at
 * /metrics, where it says nothing unless a test gives it a page.
 */
export interface Upstream extends AsyncDisposable {
  readonly url: string;
  readonly asked: Asked[];
  /** What it answers at /metrics. */
  metrics: ((response: ServerResponse) => void) | undefined;
}

export const completion = {
  choices: [{ index: 0, text: "x" }],
  usage: { prompt_tokens: 7, completion_tokens: 3, total_tokens: 10 },
};

export function answer(
  response: ServerResponse,
  status: number,
  body: unknown = completion,
  fields: Readonly<Record<string, string>> = {},
): void {
  response.writeHead(status, { "content-type": "application/json", ...fields });
  response.end(JSON.stringify(body));
}

/** A server that does with its n-th request (from 1) what it is told. */
export async function startUpstream(
  serve: (asked: Asked, n: number) => void = ({ response }) => answer(response, 200),
): Promise<Upstream> {
  const asked: Asked[] = [];
  const server = createServer((incoming, response) => {
    if (incoming.url === "/health") {
      response.end("{}");
      return;
    }
    if (incoming.url === "/metrics") {
      if (upstream.metrics === undefined) answer(response, 404, {});
      else upstream.metrics(response);
      return;
    }
    const chunks: Buffer[] = [];
    incoming.on("data", (chunk: Buffer) => chunks.push(chunk));
    incoming.on("error", () => {});
    incoming.on("end", () => {
      const one: Asked = {
        request: incoming,
        response,
        body: Buffer.concat(chunks).toString(),
        gone: false,
      };
      response.on("close", () => {
        one.gone = true;
      });
      asked.push(one);
      serve(one, asked.length);
    });
  });
  // A test says when connections are closed.
  server.keepAliveTimeout = 60_000;
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  const upstream: Upstream = {
    url: `http://127.0.0.1:${port}`,
    asked,
    metrics: undefined,
    [Symbol.asyncDispose]: async () => {
      const closed = new Promise((resolve) => server.close(resolve));
      server.closeAllConnections();
      await closed;
    },
  };
  return upstream;
}
