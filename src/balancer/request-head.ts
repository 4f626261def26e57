import type { Framing } from "./body-parser.ts";
import { type Field, parseField } from "./field-line.ts";
import { type Fields, isPassedOn, isPersistent, joined, withoutNominated } from "./fields.ts";
import { MalformedMessageError } from "./malformed-message.ts";
import { UnacceptableRequestError } from "./unacceptable-request.ts";

/** What a proxy has to know of the head of a client's request. */
export interface RequestHead {
  readonly method: string;
  /** What is asked for, as it was spelled. */
  readonly target: string;
  /** Of HTTP/1. */
  readonly minorVersion: 0 | 1;
  /** Those that are passed on. */
  readonly fields: Fields;
  readonly framing: Extract<Framing, { kind: "length" | "chunked" }>;
  readonly authorization: string | undefined;
  /** The connection may carry another request afterwards. */
  readonly keepAlive: boolean;
  /** The client waits for a word before it sends the body. */
  readonly expectsContinue: boolean;
}

/** A method is any token (RFC 9110 section 9.1). */
const requestLine = /^([!#$%&'*+\-.^_`|~0-9A-Za-z]{1,32}) ([\x21-\x7e\x80-\xff]+) HTTP\/1\.([01])$/;

/** What the fields of a request say to a proxy. */
interface Said {
  length?: string;
  coding?: string;
  connection?: string;
  authorization?: string;
  expect?: string;
  host?: string;
}

/**
 * Parses the head of a request. Whatever two readers could take in two ways is refused: one of them may be a server.
 * @param text request line and fields, decoded as latin1, without the empty line that ends them
 * @throws {MalformedMessageError}
 * @throws {UnacceptableRequestError}
 */
export function parseRequestHead(text: string): RequestHead {
  const lines = text.split("\r\n");
  const [, method, target, minor] = requestLine.exec(lines[0] as string) ?? [];
  if (method === undefined || target === undefined) {
    throw new MalformedMessageError("its request line");
  }
  const minorVersion = minor === "1" ? 1 : 0;
  const fields: string[] = [];
  const said: Said = {};
  for (let n = 1; n < lines.length; n++) {
    const field = parseField(lines[n] as string);
    if (isPassedOn(field.kind)) fields.push(field.name, field.value);
    if (field.kind !== "end-to-end") hear(said, field);
  }
  if (said.host === undefined && minorVersion === 1) throw new MalformedMessageError("no host");
  if (method === "CONNECT") throw new UnacceptableRequestError(501, "There are no tunnels here");
  const { connection, authorization } = said;
  return {
    method,
    target,
    minorVersion,
    fields: connection === undefined ? fields : withoutNominated(fields, connection),
    framing: frame(said, minorVersion),
    authorization,
    keepAlive: isPersistent(minorVersion, connection),
    expectsContinue: minorVersion === 1 && isContinue(said.expect),
  };
}

function hear(said: Said, { kind, value }: Field): void {
  switch (kind) {
    case "content-length":
      if (said.length !== undefined) throw new MalformedMessageError("two lengths");
      said.length = value;
      break;
    case "transfer-encoding":
      said.coding = joined(said.coding, value);
      break;
    case "connection":
      said.connection = joined(said.connection, value);
      break;
    case "host":
      if (said.host !== undefined) throw new MalformedMessageError("two hosts");
      said.host = value;
      break;
    case "authorization":
      said.authorization ??= value;
      break;
    case "expect":
      said.expect ??= value;
      break;
  }
}

const noBody: RequestHead["framing"] = { kind: "length", bytes: 0 };
const inChunks: RequestHead["framing"] = { kind: "chunked" };

/** RFC 9112 section 6.3, without what it lets recipients forgive. */
function frame({ length, coding }: Said, minorVersion: 0 | 1): RequestHead["framing"] {
  if (coding !== undefined) {
    if (length !== undefined || minorVersion === 0) {
      throw new MalformedMessageError("a transfer coding beside a length, or in HTTP/1.0");
    }
    if (coding.toLowerCase() === "chunked") return inChunks;
    throw new UnacceptableRequestError(501, "The transfer coding is not known here");
  }
  if (length === undefined) return noBody;
  if (!/^\d{1,15}$/.test(length)) throw new MalformedMessageError("its length");
  return { kind: "length", bytes: Number(length) };
}

function isContinue(expect: string | undefined): boolean {
  if (expect === undefined) return false;
  if (expect.toLowerCase() === "100-continue") return true;
  throw new UnacceptableRequestError(417, "Nothing but 100-continue is expected here");
}
