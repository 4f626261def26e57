/** A number where it is exact, a bigint beyond 2^53. */
export type Integer = number | bigint;

export function toInteger(value: bigint): Integer {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value;
}

/**
 * An integer as the original accepts it: an integer, a whole float, integer text (`"12"`, `" 1_000 "`, `"12.0"`), true as 1.
 * @returns undefined for anything else.
 */
export function parseIntegerValue(value: unknown): Integer | undefined {
  if (typeof value === "bigint") return toInteger(value);
  if (typeof value === "boolean") return value ? 1 : 0;
  if (typeof value === "number")
    return Number.isInteger(value) ? toInteger(BigInt(value)) : undefined;
  if (typeof value !== "string") return undefined;
  const digits = /^\s*([-+]?[0-9]+(?:_[0-9]+)*)(?:\.0+)?\s*$/.exec(value)?.[1];
  return digits === undefined ? undefined : toInteger(parseSigned(digits.replaceAll("_", "")));
}

/** BigInt() knows no plus sign. */
function parseSigned(digits: string): bigint {
  return digits.startsWith("+") ? BigInt(digits.slice(1)) : BigInt(digits);
}

const suffixes: Readonly<Record<string, number>> = { K: 1e3, M: 1e6, B: 1e9, T: 1e12 };

/**
 * A number of tokens: an integer, a float (cut to an integer, as the original does), or text such as `100B`, `1.5T`, `500M`,
 * `10K`, rounded half to even.
 * @returns undefined for anything else, `1.5e12` (text in YAML 1.1) included.
 */
export function parseTokens(value: unknown): Integer | undefined {
  if (typeof value === "number") {
    return Number.isFinite(value) ? toInteger(BigInt(Math.trunc(value))) : undefined;
  }
  if (typeof value !== "string") return parseIntegerValue(value);
  const match = /^\s*(-?[0-9][0-9_]*(?:\.[0-9]+)?)\s*([KMBT])?\s*$/i.exec(value);
  if (match === null) return undefined;
  const [, digits = "", suffix] = match;
  if (suffix === undefined && !digits.includes("."))
    return parseIntegerValue(digits.replaceAll("_", ""));
  const scaled = Number(digits.replaceAll("_", "")) * (suffixes[suffix?.toUpperCase() ?? ""] ?? 1);
  return toInteger(roundHalfToEven(scaled));
}

function roundHalfToEven(value: number): bigint {
  const floor = Math.floor(value);
  const rest = value - floor;
  const down = BigInt(floor);
  if (rest !== 0.5) return rest < 0.5 ? down : down + 1n;
  return down % 2n === 0n ? down : down + 1n;
}

/** Exact, whichever of the two forms the factors have. */
export function multiply(a: Integer, b: Integer): Integer {
  return toInteger(BigInt(a) * BigInt(b));
}

export function add(a: Integer, b: Integer): Integer {
  return toInteger(BigInt(a) + BigInt(b));
}
