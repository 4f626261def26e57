import { type Fields, renderFields } from "./fields.ts";
import type { HeldAnswer } from "./reply.ts";
import type { RequestBody } from "./request-body.ts";
import type { Tally } from "./tally.ts";

/** A client's request on its way to a server. */
export interface ForwardRequest {
  /** Counts up: names the request in logs and to its client. */
  readonly id: number;
  readonly method: string;
  /** Path and query for the server. */
  readonly path: string;
  /** Those that are passed on. */
  readonly fields: Fields;
  readonly body: RequestBody;
  readonly tally: Tally;
  /** Where its answer may be already, and will be kept. */
  readonly journal: AnswerKeeping | undefined;
}

/** Where answers to requests are kept, and those that earlier evaluations got are found. */
export interface AnswerKeeping {
  /** False: `find` would find nothing. */
  isInQuestion(request: ForwardRequest): boolean;
  /** The answer that an earlier evaluation got to this request, if there is one that was not given yet. */
  find(request: ForwardRequest): Promise<HeldAnswer | undefined>;
  /** Keeps an answer that a client is about to get, if it is of use to others. Its bytes are copied. */
  keep(request: ForwardRequest, answer: HeldAnswer): void;
}

/** Methods whose requests have a body by definition: its length is told even when there is none. */
const withBody = new Set(["POST", "PUT", "PATCH"]);

/** Request line and fields for a server at `host`, with the empty line that ends them; latin1. */
export function renderRequestHead({ method, path, fields, body }: ForwardRequest, host: string) {
  const head = `${method} ${path} HTTP/1.1\r\nHost: ${host}\r\n${renderFields(fields)}`;
  const length = body.complete ? body.size : body.length;
  if (length === undefined) return `${head}Transfer-Encoding: chunked\r\n\r\n`;
  if (length === 0 && !withBody.has(method)) return `${head}\r\n`;
  return `${head}Content-Length: ${length}\r\n\r\n`;
}

const lineEnd = Buffer.from("\r\n");

/** What is held of a body as it is sent: in chunks of HTTP as long as its length is not known. */
export function frameBody({ complete, length, chunks }: RequestBody): readonly Buffer[] {
  if (complete || length !== undefined) return chunks;
  return chunks.flatMap((chunk) => [
    Buffer.from(`${chunk.length.toString(16)}\r\n`),
    chunk,
    lineEnd,
  ]);
}
