import type { Framing } from "./body-parser.ts";
import { type Field, parseField } from "./field-line.ts";
import { type Fields, isPassedOn, isPersistent, joined, withoutNominated } from "./fields.ts";
import { MalformedMessageError } from "./malformed-message.ts";

export interface AnswerHead {
  readonly status: number;
  readonly reason: string;
  /** Those that are passed on. */
  readonly fields: Fields;
  readonly framing: Framing;
  /** The connection may carry another request afterwards. */
  readonly keepAlive: boolean;
  readonly contentType: string | undefined;
  readonly contentEncoding: string | undefined;
  readonly retryAfter: string | undefined;
}

const statusLine = /^HTTP\/1\.([01]) ([1-9]\d\d)(?: ([\t\x20-\x7e\x80-\xff]*))?$/;

/** What the fields of an answer say to a proxy. */
interface Said {
  length?: string;
  coding?: string;
  connection?: string;
  contentType?: string;
  contentEncoding?: string;
  retryAfter?: string;
}

/**
 * Parses the head of an answer to a request of this method.
 * @param text status line and fields, decoded as latin1, without the empty line that ends them
 * @throws {MalformedMessageError}
 */
export function parseAnswerHead(text: string, method: string): AnswerHead {
  const lines = text.split("\r\n");
  const [, minor, digits, reason = ""] = statusLine.exec(lines[0] as string) ?? [];
  if (digits === undefined) throw new MalformedMessageError("its status line");
  const fields: string[] = [];
  const said: Said = {};
  for (let n = 1; n < lines.length; n++) {
    const field = parseField(lines[n] as string);
    if (isPassedOn(field.kind)) fields.push(field.name, field.value);
    if (field.kind !== "end-to-end") hear(said, field);
  }
  const status = Number(digits);
  const { connection, contentType, contentEncoding, retryAfter } = said;
  const framing = frame(said, status, method);
  return {
    status,
    reason,
    fields: connection === undefined ? fields : withoutNominated(fields, connection),
    framing,
    keepAlive: framing.kind !== "until-close" && isPersistent(minor === "1" ? 1 : 0, connection),
    contentType,
    contentEncoding,
    retryAfter,
  };
}

function hear(said: Said, { kind, value }: Field): void {
  switch (kind) {
    case "content-length":
      if (said.length !== undefined && said.length !== value) {
        throw new MalformedMessageError("two lengths");
      }
      said.length = value;
      break;
    case "transfer-encoding":
      said.coding = joined(said.coding, value);
      break;
    case "connection":
      said.connection = joined(said.connection, value);
      break;
    case "content-type":
      said.contentType ??= value;
      break;
    case "content-encoding":
      said.contentEncoding ??= value;
      break;
    case "retry-after":
      said.retryAfter ??= value;
      break;
  }
}

/** RFC 9112 section 6.3, without what it lets recipients forgive. */
function frame({ length, coding }: Said, status: number, method: string): Framing {
  if (length !== undefined && coding !== undefined) {
    throw new MalformedMessageError("both a length and a transfer coding");
  }
  if (method === "HEAD" || status < 200 || status === 204 || status === 304) {
    return { kind: "none" };
  }
  if (coding !== undefined) {
    if (coding.toLowerCase() !== "chunked") throw new MalformedMessageError("its transfer coding");
    return { kind: "chunked" };
  }
  if (length === undefined) return { kind: "until-close" };
  if (!/^\d{1,15}$/.test(length)) throw new MalformedMessageError("its length");
  return { kind: "length", bytes: Number(length) };
}
