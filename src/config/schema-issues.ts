import type { z } from "zod";
import { nearestName } from "../base/nearest.ts";
import { isRecord, kindOf } from "./construct.ts";
import type { Finding, KeyPath } from "./issue.ts";
import { parsePlainScalar } from "./plain-scalar.ts";
import { Config } from "./schema.ts";
import { descriptionAt, knownKeys } from "./schema-walk.ts";
import type { YamlSource } from "./source.ts";

type SchemaIssue = z.core.$ZodIssue;

/** What the schema found, in words of the file. */
export function describeIssue(issue: SchemaIssue, source: YamlSource): Finding[] {
  const path = issue.path as (string | number)[];
  switch (issue.code) {
    case "unrecognized_keys":
      return issue.keys.map((key) => describeUnknownKey([...path, key]));
    case "invalid_union":
      return mostTelling(issue.errors)
        .map((inner) => ({ ...inner, path: [...path, ...inner.path] }) as SchemaIssue)
        .flatMap((inner) => describeIssue(inner, source));
    case "invalid_key":
      return [describeKey(issue.issues[0], path)];
    default:
      return [describeValue(issue, path, source)];
  }
}

/** Of the ways in which a value is none of several forms, the one that came furthest. */
function mostTelling(branches: readonly (readonly SchemaIssue[])[]): readonly SchemaIssue[] {
  const depth = (issues: readonly SchemaIssue[]) =>
    Math.max(...issues.map((issue) => issue.path.length));
  return branches.reduce((best, one) => (depth(one) > depth(best) ? one : best));
}

function describeUnknownKey(path: KeyPath): Finding {
  const key = String(path.at(-1));
  const finding = { path, at: "key" as const, message: `unknown key "${key}"` };
  const suggestion = nearestName(key, knownKeys(Config, path.slice(0, -1)));
  if (suggestion !== undefined) {
    return { ...finding, hint: `Did you mean "${suggestion}"?`, suggestion };
  }
  for (const block of homes(path)) {
    if (!knownKeys(Config, block).includes(key)) continue;
    const home = block.length === 0 ? "at the top of the file" : `under ${block.join(".")}`;
    return { ...finding, hint: `It belongs ${home}.` };
  }
  return { ...finding, hint: 'Keys that start with "x-" are free for notes and anchors.' };
}

/** Other blocks that a key could have been meant for. */
function homes(path: KeyPath): KeyPath[] {
  const entry = path[0] === "models" && path.length > 2 ? [path.slice(0, 2)] : [];
  const own = entry.flatMap((model) => [
    model,
    [...model, "profile"],
    [...model, "profile", "eval"],
  ]);
  return [...own, [], ["eval"], ["queue"]];
}

function describeKey(issue: SchemaIssue | undefined, path: KeyPath): Finding {
  const message = issue?.message ?? "is no valid name";
  return { path, at: "key", message: `${nameOf(path)} ${message}`, ...hintOf(issue) };
}

function describeValue(issue: SchemaIssue, path: KeyPath, source: YamlSource): Finding {
  const value = valueAt(source.value, path);
  if (value == null && path.length === 0) {
    const hint = "Start from examples/demo/eh_config.yaml, or from the example in docs/config.md.";
    return { path, message: "the file is empty", hint };
  }
  if (value === undefined) return describeMissing(path);
  const written = source.written(path);
  const meaning = descriptionAt(Config, path);
  const say = (message: string, more: Partial<Finding> = {}): Finding => ({
    path,
    message: `${nameOf(path)} ${message}`,
    ...(meaning === undefined ? {} : { hint: meaning }),
    ...more,
  });
  if (path.at(-1) === "time_limit" && typeof value === "bigint") {
    return say(...describeTime(value, written));
  }
  switch (issue.code) {
    case "invalid_type":
      return say(...describeType(issue.expected, value, written, source.isBracketed(path)));
    case "invalid_value": {
      const values = issue.values.map(String);
      const suggestion = nearestName(written ?? "", values);
      const near =
        suggestion === undefined ? {} : { hint: `Did you mean "${suggestion}"?`, suggestion };
      return say(`must be one of ${values.join(", ")}${butIs(value, written)}`, near);
    }
    default: {
      const { message } = issue;
      const tellsValue = message.startsWith("must be ");
      return say(tellsValue ? `${message}${butIs(value, written)}` : message, hintOf(issue));
    }
  }
}

function describeMissing(path: KeyPath): Finding {
  const parent = path.length === 1 ? "" : ` in ${path.slice(0, -1).join(".")}`;
  const meaning = descriptionAt(Config, path);
  return {
    path,
    at: "key",
    message: `${nameOf(path)} is missing${parent}`,
    hint: `${meaning === undefined ? "" : `${meaning} `}Add "${String(path.at(-1))}: ...".`,
    needs: path,
  };
}

type Words = readonly [message: string, more?: Partial<Finding>];

function describeType(
  expected: string,
  value: unknown,
  written: string | undefined,
  isBracketed: boolean,
): Words {
  const isScalar = written !== undefined && value !== null;
  switch (expected) {
    case "string":
      if (!isScalar) {
        const hint = isBracketed ? { hint: 'Text that begins with "{" or "[" needs quotes.' } : {};
        return [`must be text${butIs(value, written)}`, hint];
      }
      return [
        `must be text, not ${kindOf(value)}`,
        { hint: `Put it in quotes: ${JSON.stringify(written)}.` },
      ];
    case "array":
      if (!isScalar) return [`must be a list${butIs(value, written)}`];
      return [
        `must be a list${butIs(value, written)}`,
        { hint: `Write [${written}], or one line "- ${written}" below it.` },
      ];
    case "object":
    case "record":
      if (!Array.isArray(value)) return [`must be a map${butIs(value, written)}`];
      return ["must be a map, not a list", { hint: 'Write "NAME: ..." instead of "- ...".' }];
    case "boolean": {
      const quoted = typeof value === "string" && typeof parsePlainScalar(value) === "boolean";
      const hint = quoted ? { hint: `Without quotes: ${value}.` } : {};
      return [`must be true or false${butIs(value, written)}`, hint];
    }
    default:
      return [`must be ${expected}${butIs(value, written)}`];
  }
}

function describeTime(value: bigint, written: string | undefined): Words {
  const hint = `Put it in quotes: "${written ?? value}".`;
  if (written?.includes(":") !== true) return ["must be text, not a number", { hint }];
  return [
    `became the number ${value}, since YAML 1.1 reads ${written} as a number to the base 60`,
    { hint },
  ];
}

function hintOf(issue: SchemaIssue | undefined): { hint?: string } {
  const params = issue !== undefined && "params" in issue ? issue.params : undefined;
  return typeof params?.hint === "string" ? { hint: params.hint } : {};
}

/** The second half of "must be ...". */
function butIs(value: unknown, written: string | undefined): string {
  if (value === null) return ", but is empty";
  if (written === undefined) return `, not ${kindOf(value)}`;
  return `, not ${typeof value === "string" ? JSON.stringify(written) : written}`;
}

function nameOf(path: KeyPath): string {
  const last = path.at(-1);
  if (last === undefined) return "the file";
  return typeof last === "number" ? `item ${last + 1} of "${String(path.at(-2))}"` : `"${last}"`;
}

function valueAt(value: unknown, path: KeyPath): unknown {
  let at = value;
  for (const key of path) {
    if (!isRecord(at) && !Array.isArray(at)) return undefined;
    at = (at as Record<string | number, unknown>)[key];
  }
  return at;
}
