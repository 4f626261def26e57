import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { test } from "node:test";
import fc from "fast-check";
import { parsePlainScalar } from "../../src/config/plain-scalar.ts";
import { requirePython } from "../support/require.ts";

/** Says of each text what PyYAML's safe_load makes of it: its type and, exactly, its value. */
const script = `
import json, sys, yaml
def tell(text):
    try:
        value = yaml.safe_load(text)
    except Exception:
        return "error"
    if isinstance(value, float):
        return "float " + value.hex()
    if isinstance(value, (str, int, type(None))):
        return f"{type(value).__name__} {value}"
    return "other"
json.dump([tell(text) for text in json.load(sys.stdin)], sys.stdout)
`;

/** As the script tells it. */
function tell(text: string): string {
  const value = parsePlainScalar(text);
  if (value === null) return "NoneType None";
  if (typeof value === "boolean") return value ? "bool True" : "bool False";
  if (typeof value === "bigint") return `int ${value}`;
  if (typeof value === "number") return `float ${hex(value)}`;
  return `str ${value}`;
}

/** Python's float.hex. */
function hex(value: number): string {
  if (Number.isNaN(value)) return "nan";
  if (!Number.isFinite(value)) return value < 0 ? "-inf" : "inf";
  const view = new DataView(new ArrayBuffer(8));
  view.setFloat64(0, value);
  const bits = view.getBigUint64(0);
  const sign = bits >> 63n === 1n ? "-" : "";
  const exponent = Number((bits >> 52n) & 0x7ffn);
  const mantissa = (bits & ((1n << 52n) - 1n)).toString(16).padStart(13, "0");
  if (exponent === 0 && /^0*$/.test(mantissa)) return `${sign}0x0.0p+0`;
  const power = exponent === 0 ? -1022 : exponent - 1023;
  return `${sign}0x${exponent === 0 ? 0 : 1}.${mantissa}p${power < 0 ? "-" : "+"}${Math.abs(power)}`;
}

test("unquoted scalars mean what they mean to PyYAML", (t) => {
  const python = requirePython(t);
  if (python === undefined) return;
  const characters = fc.string({
    unit: fc.constantFrom(..."0123456789_.:+-eExXbBfF"),
    minLength: 1,
    maxLength: 9,
  });
  const words = fc.constantFrom(
    ..."yes No ON off true False y n null ~ Null .inf -.INF .nan +.Inf 0 -0 00 1e5 1.5E+3 1_0.5_".split(
      " ",
    ),
  );
  const texts = fc.sample(fc.oneof({ weight: 9, arbitrary: characters }, words), {
    numRuns: 5_000,
    seed: 1,
  });
  const { stdout, stderr } = spawnSync(python, ["-c", script], {
    input: JSON.stringify(texts),
    encoding: "utf8",
  });
  const told = JSON.parse(stdout || `"${stderr}"`) as string[];
  // What is no scalar there: dates, "- x", "a: b", and digits that are none, such as 0x_.
  const compared = texts.flatMap((text, at) =>
    told[at] === "error" || told[at] === "other" ? [] : [[text, told[at]] as const],
  );
  assert.ok(compared.length > 4_000, `${compared.length} of ${texts.length} compared`);
  for (const [text, expected] of compared) assert.equal(tell(text), expected, JSON.stringify(text));
});
