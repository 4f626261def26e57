/** null, booleans, text, every integer as a bigint and every float as a number, so that `1` and `1.0` stay two things. */
export type PlainValue = null | boolean | bigint | number | string;

const integer =
  /^[-+]?(?:0b[01_]+|0[0-7_]+|0|[1-9][0-9_]*|0x[0-9a-fA-F_]+|[1-9][0-9_]*(?::[0-5]?[0-9])+)$/;
const float =
  /^(?:[-+]?[0-9][0-9_]*\.[0-9_]*(?:[eE][-+][0-9]+)?|\.[0-9][0-9_]*(?:[eE][-+][0-9]+)?|[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+\.[0-9_]*|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$/;
const boolean = /^(?:yes|Yes|YES|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF)$/;
const nothing = /^(?:~|null|Null|NULL|)$/;

/**
 * What an unquoted scalar means in YAML 1.1, as PyYAML reads it (yaml/resolver.py, yaml/constructor.py): `010` is 8,
 * `1:30` is 90, `2_097_152` is an integer, `1.5e12` is text because its exponent has no sign, `y` is text.
 * Dates stay text.
 */
export function parsePlainScalar(text: string): PlainValue {
  // Most scalars are keys: their first letter says that they are text.
  if (/^[a-eg-mp-su-xzA-EG-MP-SU-XZ_/${]/.test(text)) return text;
  if (nothing.test(text)) return null;
  if (boolean.test(text)) return /^(?:yes|true|on)$/i.test(text);
  if (integer.test(text)) return parseInteger(text.replaceAll("_", "")) ?? text;
  if (float.test(text)) return parseFloatText(text.replaceAll("_", "").toLowerCase());
  return text;
}

/** undefined for digits that are none, such as `0x_`. */
function parseInteger(text: string): bigint | undefined {
  const negative = text.startsWith("-");
  const digits = text.replace(/^[-+]/, "");
  const value = digits.includes(":") ? parseSexagesimal(digits) : parseDigits(digits);
  return value === undefined || !negative ? value : -value;
}

function parseDigits(digits: string): bigint | undefined {
  if (/^0[bx]$/.test(digits)) return undefined;
  if (/^0[0-7]+$/.test(digits)) return BigInt(`0o${digits.slice(1)}`);
  return BigInt(digits);
}

function parseSexagesimal(digits: string): bigint {
  return digits.split(":").reduce((sum, part) => sum * 60n + BigInt(part), 0n);
}

function parseFloatText(text: string): number {
  const sign = text.startsWith("-") ? -1 : 1;
  const digits = text.replace(/^[-+]/, "");
  if (digits === ".inf") return sign * Number.POSITIVE_INFINITY;
  if (digits === ".nan") return Number.NaN;
  return sign * digits.split(":").reduce((sum, part) => sum * 60 + Number(part), 0);
}
