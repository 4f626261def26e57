import type { Clock } from "../base/clock.ts";
import { Connection, type Loss, type Origin } from "./connection.ts";

/** What a server says to a request of our own. `silent`: nothing, in the time that it had. */
export type ProbeResult =
  | { readonly kind: "answer"; readonly status: number; readonly body: Buffer }
  | { readonly kind: "lost"; readonly loss: Loss }
  | { readonly kind: "silent" };

export interface ProbeRequest {
  readonly origin: Origin;
  readonly host: string;
  readonly path: string;
  readonly timeoutMs: number;
  readonly clock: Clock;
}

/** Answers of our own requests are short. */
const maxBytes = 4 << 20;

/** Asks a server over a connection of its own. @throws the signal's reason when it aborts. */
export async function probe(request: ProbeRequest, signal: AbortSignal): Promise<ProbeResult> {
  const { origin, host, path, timeoutMs, clock } = request;
  const over = new AbortController();
  const settled = Promise.withResolvers<ProbeResult>();
  const chunks: Buffer[] = [];
  let status = 0;
  let size = 0;
  const connection = new Connection(origin, { onIdle: () => {}, onClosed: () => {} }, timeoutMs);
  connection.open();
  const head = `GET ${path} HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`;
  connection.send(
    { method: "GET", head, body: [], more: false },
    {
      onHead: (answer) => {
        status = answer.status;
      },
      onData: (chunk) => {
        size += chunk.length;
        if (size <= maxBytes) chunks.push(Buffer.from(chunk));
        else connection.close();
      },
      onEnd: () => settled.resolve({ kind: "answer", status, body: Buffer.concat(chunks) }),
      onLost: (loss) => settled.resolve({ kind: "lost", loss }),
      onOpen: () => {},
      onDrain: () => {},
    },
  );
  const silence = clock.sleep(timeoutMs, AbortSignal.any([signal, over.signal])).then(
    (): ProbeResult => ({ kind: "silent" }),
    (error: unknown) => {
      if (signal.aborted) throw error;
      return { kind: "silent" } as const;
    },
  );
  try {
    return await Promise.race([settled.promise, silence]);
  } finally {
    over.abort();
    connection.close();
    await silence.catch(() => {});
  }
}
