import { type FieldKind, kindOf } from "./fields.ts";
import { MalformedMessageError } from "./malformed-message.ts";

export interface Field {
  readonly name: string;
  readonly value: string;
  readonly kind: FieldKind;
}

/** RFC 9110 section 5.6.2, then 5.5 without the folding that RFC 9112 section 5.2 forbids. */
const fieldLine =
  /^([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[\t ]*((?:[\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)?)[\t ]*$/;

/** Servers say the same again and again. */
const known = new Map<string, Field>();
const maxKnown = 256;
const maxKnownLength = 128;

/** Parses a header field or trailer. @throws {MalformedMessageError} */
export function parseField(line: string): Field {
  const before = known.get(line);
  if (before !== undefined) return before;
  const [, name, value = ""] = fieldLine.exec(line) ?? [];
  if (name === undefined) throw new MalformedMessageError("a header field");
  const field = { name, value, kind: kindOf(name) };
  if (line.length <= maxKnownLength) {
    // What does not come again, dates and lengths, goes with the rest.
    if (known.size >= maxKnown) known.clear();
    known.set(line, field);
  }
  return field;
}
