/** Header fields of HTTP/1.1: names and values in turn, in their order, spelled as they were sent. */
export type Fields = readonly string[];

/** What a proxy has to know of a field before it may pass it on. */
export type FieldKind =
  /** Passed on, and nothing to us. */
  | "end-to-end"
  /** Belongs to one connection (RFC 9110 section 7.6.1), or is set anew. */
  | "hop-by-hop"
  /** Passed on, and looked at. */
  | "authorization"
  | "content-encoding"
  | "content-type"
  | "retry-after"
  /** Not passed on, but obeyed. */
  | "connection"
  | "content-length"
  | "transfer-encoding"
  | "expect"
  | "host";

const kinds: ReadonlyMap<string, FieldKind> = new Map<string, FieldKind>([
  ["authorization", "authorization"],
  ["connection", "connection"],
  ["content-encoding", "content-encoding"],
  ["content-length", "content-length"],
  ["content-type", "content-type"],
  ["retry-after", "retry-after"],
  ["transfer-encoding", "transfer-encoding"],
  ["expect", "expect"],
  ["host", "host"],
  ["keep-alive", "hop-by-hop"],
  ["proxy-authenticate", "hop-by-hop"],
  ["proxy-authorization", "hop-by-hop"],
  ["proxy-connection", "hop-by-hop"],
  ["te", "hop-by-hop"],
  ["trailer", "hop-by-hop"],
  ["upgrade", "hop-by-hop"],
]);

/** Names as they were spelled: peers use few spellings, which cost more to change than to look up. */
const spelled = new Map<string, FieldKind>();
const maxSpelled = 512;

export function kindOf(name: string): FieldKind {
  const known = spelled.get(name);
  if (known !== undefined) return known;
  const kind = kinds.get(name.toLowerCase()) ?? "end-to-end";
  if (spelled.size < maxSpelled) spelled.set(name, kind);
  return kind;
}

export function isPassedOn(kind: FieldKind): boolean {
  switch (kind) {
    case "end-to-end":
    case "authorization":
    case "content-encoding":
    case "content-type":
    case "retry-after":
      return true;
    default:
      return false;
  }
}

/** The members of a comma-separated list, in lower case. */
export function listOf(value: string): string[] {
  return value
    .split(",")
    .map((member) => member.trim().toLowerCase())
    .filter((member) => member !== "");
}

/** What a field says that may come in several lines, one more of them included. */
export function joined(list: string | undefined, line: string): string {
  return list === undefined ? line : `${list},${line}`;
}

/**
 * The connection may carry another message afterwards (RFC 9112 section 9.3).
 * @param connection what `Connection` says, if it is there
 */
export function isPersistent(minorVersion: 0 | 1, connection: string | undefined): boolean {
  if (connection === undefined) return minorVersion === 1;
  const options = listOf(connection);
  return !options.includes("close") && (minorVersion === 1 || options.includes("keep-alive"));
}

/** @param connection what `Connection` says: it may name fields that belong to this connection, too */
export function withoutNominated(fields: string[], connection: string): string[] {
  if (/^(?:keep-alive|close)?$/i.test(connection)) return fields;
  const nominated = new Set(listOf(connection));
  return withoutNames(fields, (name) => nominated.has(name.toLowerCase()));
}

export function withoutNames(fields: Fields, isUnwanted: (name: string) => boolean): string[] {
  return fields.filter((_, at) => !isUnwanted(fields[at - (at % 2)] as string));
}

/** As lines of a head. */
export function renderFields(fields: Fields): string {
  let lines = "";
  for (let at = 0; at < fields.length; at += 2) lines += `${fields[at]}: ${fields[at + 1]}\r\n`;
  return lines;
}
