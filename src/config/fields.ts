import * as z from "zod";
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
export function integer(minimum: number, description: string) {
  return largeInteger(minimum, description).transform((value, context): number => {
    if (typeof value === "number") return value;
    context.addIssue({ code: "custom", message: "must be a whole number below 2^53" });
    return z.NEVER;
  });
}

/** As `integer`, but exact beyond 2^53 too. */
export function largeInteger(minimum: number | undefined, description: string) {
  const form = minimum === undefined ? "" : ` of at least ${minimum}`;
  return z
    .unknown()
    .transform((value, context): Integer => {
      const parsed = parseIntegerValue(value);
      if (parsed !== undefined && parsed >= (minimum ?? parsed)) return parsed;
      const params = { hint: withoutExponent(value) };
      context.addIssue({ code: "custom", message: `must be a whole number${form}`, params });
      return z.NEVER;
    })
    .meta({
      // Text too: `2_097_152` is a number in YAML 1.1, and text to an editor that knows 1.2 only.
      type: ["integer", "string"],
      pattern: "^ *[-+]?[0-9][0-9_]*(\\.0+)? *$",
      ...(minimum === undefined ? {} : { minimum }),
      description,
    });
}

/** `1e6` and `1.5e12` are text in YAML 1.1. */
function withoutExponent(value: unknown): string | undefined {
  if (typeof value !== "string" || !/^[-+]?[0-9.]+e[0-9]+$/i.test(value)) return undefined;
  const number = Number(value);
  if (!Number.isSafeInteger(number)) return undefined;
  return `YAML 1.1 reads an exponent without a sign as text: write ${number}.`;
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
      const params = { hint: withoutExponent(value) };
      context.addIssue({ code: "custom", message: tokensForms, params });
      return z.NEVER;
    })
    .meta({ type: ["number", "string"], description });
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
export function lmEvalArguments(description: string, reserved: ReadonlyMap<string, string>) {
  return z
    .record(
      keyName((key) => {
        const better = reserved.get(key.replace(/^-+/, "").replaceAll("-", "_"));
        if (better === undefined) return undefined;
        return { message: "is set by eval-hive", hint: `Use ${better}.` };
      }),
      z.unknown(),
    )
    .transform((values) => {
      const entries = Object.entries(values).map(
        ([key, value]) =>
          [key, typeof value === "number" ? floatText(value) : argumentValue(value)] as const,
      );
      return Object.fromEntries(entries);
    })
    .meta({ type: "object", description });
}

/** What is wrong with a name, and the way out. */
export interface NameProblem {
  readonly message: string;
  readonly hint: string;
}

/** A key of a map whose keys are the user's. */
export function keyName(problemOf: (key: string) => NameProblem | undefined) {
  return z.string().superRefine((key, context) => {
    const problem = problemOf(key);
    if (problem === undefined) return;
    const { message, hint } = problem;
    context.addIssue({ code: "custom", message, params: { hint } });
  });
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
