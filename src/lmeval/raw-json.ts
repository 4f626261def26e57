/**
 * The text of single values inside a JSON document. Python prints 1.0 where JavaScript prints 1, and integers that a
 * double cannot hold: whoever needs a number as Python wrote it takes it from the text.
 */

const structural = /["{}[\]]/g;
const scalar = /[^\s,\]}]+/y;
const blank = /[\s,:]*/y;

function skipBlank(text: string, at: number): number {
  blank.lastIndex = at;
  blank.test(text);
  return blank.lastIndex;
}

function skipString(text: string, at: number): number {
  let end = at;
  let escaped = true;
  while (escaped) {
    end = text.indexOf('"', end + 1);
    if (end < 0) throw new SyntaxError("Cannot skip a JSON string: it has no end");
    let slashes = end;
    while (text[slashes - 1] === "\\") slashes--;
    escaped = (end - slashes) % 2 === 1;
  }
  return end + 1;
}

function skipValue(text: string, at: number): number {
  const first = text[at];
  if (first === '"') return skipString(text, at);
  if (first !== "{" && first !== "[") {
    scalar.lastIndex = at;
    scalar.test(text);
    return scalar.lastIndex;
  }
  let depth = 0;
  structural.lastIndex = at;
  for (let match = structural.exec(text); match !== null; match = structural.exec(text)) {
    if (match[0] === '"') structural.lastIndex = skipString(text, match.index);
    else depth += match[0] === "{" || match[0] === "[" ? 1 : -1;
    if (depth === 0) return structural.lastIndex;
  }
  throw new SyntaxError("Cannot skip a JSON value: it has no end");
}

/** Where the value of `key` starts in the object at `at`, or undefined when there is no such member, or no object. */
function findMember(text: string, at: number, key: string): number | undefined {
  if (text[at] !== "{") return undefined;
  const plain = JSON.stringify(key);
  let next = skipBlank(text, at + 1);
  while (text[next] === '"') {
    const end = skipString(text, next);
    const name = text.slice(next, end);
    const value = skipBlank(text, end);
    if (name === plain || (name.includes("\\") && JSON.parse(name) === key)) return value;
    next = skipBlank(text, skipValue(text, value));
  }
  return undefined;
}

/** The text of the value at `path` in a valid JSON document; undefined when there is none. */
export function rawJsonMember(text: string, path: readonly string[]): string | undefined {
  let at: number | undefined = skipBlank(text, 0);
  for (const key of path) {
    at = findMember(text, at, key);
    if (at === undefined) return undefined;
  }
  return text.slice(at, skipValue(text, at));
}

const token = /"[^"\\]*(?:\\.[^"\\]*)*"|[^\s,:"{}[\]]+|[\s,:]+/g;

function rewrite(raw: string, string: (text: string) => string, word: (text: string) => string) {
  return raw.replace(token, (part) => {
    if (part.startsWith('"')) return string(JSON.parse(part) as string);
    if (part.includes(",")) return ", ";
    if (part.includes(":")) return ": ";
    return /^\s/.test(part) ? "" : word(part);
  });
}

/** JSON as Python's `json.dumps` prints it by default: ", " and ": ", ASCII only, each number as it stands in `raw`. */
export function pythonJsonText(raw: string): string {
  const hex = (unit: string) => unit.charCodeAt(0).toString(16).padStart(4, "0");
  return rewrite(
    raw,
    (text) => JSON.stringify(text).replace(/[\u007f-\uffff]/g, (unit) => `\\u${hex(unit)}`),
    (word) => word,
  );
}

const pythonWords: Readonly<Record<string, string>> = {
  true: "True",
  false: "False",
  null: "None",
  NaN: "nan",
  Infinity: "inf",
  "-Infinity": "-inf",
};

function pythonStringRepr(text: string): string {
  const quote = text.includes("'") && !text.includes('"') ? '"' : "'";
  const body = text.replace(/[\\'"\p{Cc}\u00a0\u00ad]/gu, (unit) => {
    if (unit === "\\" || unit === quote) return `\\${unit}`;
    if (unit === '"' || unit === "'") return unit;
    const short = { "\n": "\\n", "\r": "\\r", "\t": "\\t" }[unit];
    return short ?? `\\x${unit.charCodeAt(0).toString(16).padStart(2, "0")}`;
  });
  return `${quote}${body}${quote}`;
}

/** A value as Python's `str()` prints it after `json.loads`: text bare, lists and dicts by `repr`. */
export function pythonText(raw: string): string {
  if (raw.startsWith('"')) return JSON.parse(raw) as string;
  return rewrite(raw, pythonStringRepr, (word) => pythonWords[word] ?? word);
}
