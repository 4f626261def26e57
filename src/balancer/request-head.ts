import { type Fields, isPassedOn, kindOf, withoutNominated } from "./fields.ts";

/** What a proxy has to know of the head of a client's request. */
export interface RequestHead {
  /** Those that are passed on. */
  readonly fields: Fields;
  /** How its body is framed (RFC 9112 section 6.3); `unknown`: in a way that can't be taken apart here. */
  readonly length: number | "chunked" | "unknown";
  readonly authorization: string | undefined;
}

/** @param raw all fields, as Node's parser has let them through: what contradicts itself does not come this far */
export function readRequestHead(raw: Fields, httpVersionMinor: number): RequestHead {
  const fields: string[] = [];
  let length: RequestHead["length"] = 0;
  let authorization: string | undefined;
  let connection = "";
  for (let at = 0; at < raw.length; at += 2) {
    const name = raw[at] as string;
    const value = raw[at + 1] as string;
    const kind = kindOf(name);
    if (isPassedOn(kind)) fields.push(name, value);
    if (kind === "authorization") authorization ??= value;
    else if (kind === "connection")
      connection = connection === "" ? value : `${connection},${value}`;
    else if (kind === "content-length" && length === 0) length = Number(value);
    else if (kind === "transfer-encoding") {
      length = isChunkedAlone(value, httpVersionMinor, length) ? "chunked" : "unknown";
    }
  }
  return { fields: withoutNominated(fields, connection), length, authorization };
}

function isChunkedAlone(
  coding: string,
  httpVersionMinor: number,
  before: RequestHead["length"],
): boolean {
  return before === 0 && httpVersionMinor === 1 && coding.toLowerCase() === "chunked";
}
