import { Agent } from "undici";
import type { Backend } from "./control.ts";

/** A request or an answer, held whole so that it can be sent again. */
export interface Held {
  readonly headers: Readonly<Record<string, string | string[]>>;
  readonly body: Buffer;
}
export interface HeldRequest extends Held {
  readonly method: string;
  readonly path: string;
}
export interface HeldAnswer extends Held {
  readonly status: number;
}

/** How one attempt on one server ended. */
export type Outcome =
  | { readonly kind: "answer"; readonly answer: HeldAnswer }
  /** Nothing usable came: refused, reset, cut short. */
  | { readonly kind: "lost"; readonly reason: string }
  | { readonly kind: "timeout" };

/** RFC 9110 section 7.6.1; the length is set anew from the body. */
const hopByHop = new Set([
  "connection",
  "keep-alive",
  "proxy-authenticate",
  "proxy-authorization",
  "proxy-connection",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
  "content-length",
  "expect",
  "host",
]);

export function forwardedHeaders(
  headers: Readonly<Record<string, string | string[] | undefined>>,
): Record<string, string | string[]> {
  const forwarded = Object.entries(headers).filter(
    (header): header is [string, string | string[]] =>
      header[1] !== undefined && !hopByHop.has(header[0]),
  );
  return Object.fromEntries(forwarded);
}

/** The client side: keeps connections, for less time than the servers' usual 5 s. */
export class Upstream implements AsyncDisposable {
  readonly #agent = new Agent({
    connect: { timeout: 2_000 },
    keepAliveTimeout: 4_000,
    keepAliveMaxTimeout: 4_000,
    // The caller's time-out is the only one.
    headersTimeout: 0,
    bodyTimeout: 0,
    pipelining: 1,
  });

  /** @throws the signal's reason when it aborts. */
  async attempt(
    server: Backend,
    request: HeldRequest,
    options: { readonly timeoutMs: number; readonly signal: AbortSignal },
  ): Promise<Outcome> {
    const timeout = AbortSignal.timeout(options.timeoutMs);
    try {
      const response = await this.#agent.request({
        origin: server.url,
        method: request.method as "POST",
        path: request.path,
        headers: { ...request.headers },
        body: request.body,
        signal: AbortSignal.any([options.signal, timeout]),
      });
      const body = Buffer.from(await response.body.arrayBuffer());
      const headers = forwardedHeaders(response.headers);
      if (isCutShort(headers, body)) return { kind: "lost", reason: "its answer is cut short" };
      return { kind: "answer", answer: { status: response.statusCode, headers, body } };
    } catch (error) {
      options.signal.throwIfAborted();
      if (timeout.aborted) return { kind: "timeout" };
      return { kind: "lost", reason: error instanceof Error ? error.message : String(error) };
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#agent.destroy();
  }
}

/** A JSON answer that does not end as it begins; servers that die while they write leave such. */
function isCutShort(headers: Held["headers"], body: Buffer): boolean {
  if (!String(headers["content-type"] ?? "").startsWith("application/json")) return false;
  if (headers["content-encoding"] !== undefined) return false;
  const text = body.toString("latin1").trim();
  return text.startsWith("{") && !text.endsWith("}");
}
