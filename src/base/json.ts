/** Values that JSON can hold, plus bigint for integers beyond 2^53. */
export type Json =
  | null
  | boolean
  | number
  | bigint
  | string
  | readonly Json[]
  | { readonly [key: string]: Json | undefined };

/**
 * JSON text with bigint printed as an integer. `indent` as in JSON.stringify.
 * Objects keep their order; undefined members are left out.
 */
export function stringifyJson(value: unknown, indent?: number): string {
  return JSON.stringify(
    value,
    // rawJSON is the only exact way to print an integer beyond 2^53.
    (_key, member: unknown) =>
      typeof member === "bigint" ? (JSON as unknown as RawJson).rawJSON(member.toString()) : member,
    indent,
  );
}

interface RawJson {
  rawJSON(text: string): unknown;
}

/** One text per value: object keys sorted by code unit, no blanks. What fingerprints are hashes of. */
export function canonicalJson(value: Json): string {
  if (Array.isArray(value)) return `[${value.map((item: Json) => canonicalJson(item)).join(",")}]`;
  if (value !== null && typeof value === "object") {
    const members = Object.entries(value as { readonly [key: string]: Json | undefined })
      .filter((entry): entry is [string, Json] => entry[1] !== undefined)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([key, member]) => `${JSON.stringify(key)}:${canonicalJson(member)}`);
    return `{${members.join(",")}}`;
  }
  return stringifyJson(value);
}

/**
 * Parses JSON as Python writes it: bare NaN, Infinity and -Infinity are numbers.
 * @throws {SyntaxError} as JSON.parse does.
 */
export function parsePythonJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    if (!/NaN|Infinity/.test(text)) throw error;
  }
  // JSON has numbers beyond a double's range, but none that is NaN: for it stands a text that occurs nowhere. Strings are
  // matched first, so that theirs stay.
  let marker = "\u0000nan";
  while (text.includes(JSON.stringify(marker))) marker += ":";
  const replacements: Record<string, string> = {
    NaN: JSON.stringify(marker),
    Infinity: "1e999",
    "-Infinity": "-1e999",
  };
  const standard = text.replace(
    /"[^"\\]*(?:\\.[^"\\]*)*"|-?Infinity|NaN/g,
    (token) => replacements[token] ?? token,
  );
  return putNaN(JSON.parse(standard), marker);
}

/** In place: a reviver takes many times as long. */
function putNaN(value: unknown, marker: string): unknown {
  if (value === marker) return Number.NaN;
  if (typeof value === "object" && value !== null) {
    const members = value as Record<string, unknown>;
    for (const key of Object.keys(members)) {
      const member = members[key];
      if (member === marker || typeof member === "object") members[key] = putNaN(member, marker);
    }
  }
  return value;
}

/** Parses JSON with integers beyond 2^53 as bigint. @throws {SyntaxError} as JSON.parse does. */
export function parseExactJson(text: string): unknown {
  // A reviver takes many times as long, and hardly any text holds such an integer.
  if (!/(?<![\w.])\d{16,}(?![\w.])/.test(text)) return JSON.parse(text);
  const revive = (_key: string, value: unknown, context: { source?: string }) =>
    typeof value === "number" &&
    !Number.isSafeInteger(value) &&
    /^-?\d+$/.test(context.source ?? "")
      ? BigInt(context.source as string)
      : value;
  return JSON.parse(text, revive as (key: string, value: unknown) => unknown);
}
