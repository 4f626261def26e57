import { z } from "zod";
import { type Integer, parseIntegerValue, parseTokens } from "./quantities.ts";

/**
 * Building blocks of the schema. Messages are predicates: the name of the key is put before them when they are shown
 * (schema-issues.ts). Descriptions become the hover text of editors and the pages of docs/config.md.
 */

/** Text, not empty. */
export function name(description: string) {
  return z.string().min(1, "must not be empty").describe(description);
}

/** Text that ends up in one line of a batch script. May be empty. */
export function oneLine(description: string) {
  return z
    .string()
    .regex(/^[^\r\n]*$/, "must not hold a line break")
    .describe(description);
}

/** An integer of at least `minimum`, as the original reads numbers (quantities.ts), up to 2^53. */
export function integer(minimum: number | undefined, description: string) {
  return z
    .unknown()
    .transform((value, context): number => {
      const parsed = parseIntegerValue(value);
      if (typeof parsed === "number" && parsed >= (minimum ?? parsed)) return parsed;
      context.addIssue({ code: "custom", message: integerForm(minimum) });
      return z.NEVER;
    })
    .meta({ type: "integer", ...(minimum === undefined ? {} : { minimum }), description });
}

/** As `integer`, but exact beyond 2^53 too. */
export function largeInteger(minimum: number, description: string) {
  return z
    .unknown()
    .transform((value, context): Integer => {
      const parsed = parseIntegerValue(value);
      if (parsed !== undefined && parsed >= minimum) return parsed;
      context.addIssue({ code: "custom", message: integerForm(minimum) });
      return z.NEVER;
    })
    .meta({ type: "integer", minimum, description });
}

function integerForm(minimum: number | undefined): string {
  return minimum === undefined
    ? "must be a whole number"
    : `must be a whole number of at least ${minimum}`;
}

const tokensForms =
  'must be a whole number of tokens, or text such as "100B", "1.5T", "500M", "10K"';

/** A number of tokens, with or without K, M, B or T. */
export function tokens(description: string) {
  return z
    .unknown()
    .transform((value, context): Integer => {
      const parsed = parseTokens(value);
      if (parsed !== undefined && parsed >= 0) return parsed;
      context.addIssue({ code: "custom", message: tokensForms });
      return z.NEVER;
    })
    .meta({ type: ["integer", "number", "string"], description });
}

/** Values of `model_args` and `lm_eval_args`, after YAML: what JSON can hold, and bigints. */
export type ArgumentValue =
  | null
  | boolean
  | number
  | bigint
  | string
  | ArgumentValue[]
  | { [key: string]: ArgumentValue };

/**
 * A map of arguments for lm_eval. A whole float at the top, which JSON could not tell from an integer, becomes its text
 * (`1.0`): lm_eval reads text that looks like a number as that number.
 */
export function lmEvalArguments(description: string, reserved: Readonly<Record<string, string>>) {
  return z
    .record(z.string(), z.unknown())
    .transform((values, context) => {
      const entries = Object.entries(values).map(([key, value]) => {
        const better = reserved[key.replace(/^-+/, "").replaceAll("-", "_")];
        if (better !== undefined) {
          context.addIssue({
            code: "custom",
            path: [key],
            message: "is set by eval-hive",
            params: { hint: `Use ${better}.`, at: "key" },
          });
        }
        return [key, typeof value === "number" ? floatText(value) : argumentValue(value)] as const;
      });
      return Object.fromEntries(entries);
    })
    .meta({ type: "object", description });
}

function floatText(value: number): ArgumentValue {
  if (Number.isInteger(value))
    return value.toString().includes("e") ? String(value) : value.toFixed(1);
  if (Number.isFinite(value)) return value;
  return Number.isNaN(value) ? "nan" : value > 0 ? "inf" : "-inf";
}

function argumentValue(value: unknown): ArgumentValue {
  if (typeof value === "bigint") {
    const parsed = parseIntegerValue(value);
    return parsed ?? value;
  }
  if (typeof value === "number" && !Number.isFinite(value)) return floatText(value);
  if (Array.isArray(value)) return value.map(argumentValue);
  if (typeof value === "object" && value !== null) {
    return Object.fromEntries(
      Object.entries(value).map(([key, member]) => [key, argumentValue(member)]),
    );
  }
  return value as ArgumentValue;
}
