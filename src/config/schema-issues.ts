import type { z } from "zod";
import { isRecord, kindOf } from "./construct.ts";
import type { Finding, KeyPath } from "./issue.ts";
import { nearestName } from "./nearest.ts";
import { Config } from "./schema.ts";
import { knownKeys } from "./schema-walk.ts";
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
    case "invalid_key": {
      const message = issue.issues[0]?.message ?? "is no valid name";
      return [{ path, at: "key", message: `${nameOf(path)} ${message}` }];
    }
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

function describeValue(issue: SchemaIssue, path: KeyPath, source: YamlSource): Finding {
  const value = valueAt(source.value, path);
  const params = "params" in issue ? issue.params : undefined;
  if (value === undefined && params?.rule !== true) {
    return path.length === 0
      ? { path, message: "the file is empty" }
      : { path, at: "key", message: `${nameOf(path)} is missing` };
  }
  const written = source.written(path);
  const at = params?.at === "key" ? "key" : "value";
  const hint = typeof params?.hint === "string" ? { hint: params.hint } : {};
  const say = (message: string, more: Partial<Finding> = {}): Finding => ({
    path,
    at,
    message: `${nameOf(path)} ${message}`,
    ...hint,
    ...more,
  });
  if (path.at(-1) === "time_limit" && typeof value === "bigint")
    return describeTime(say, value, written);
  switch (issue.code) {
    case "invalid_type":
      if (issue.expected === "string" && written !== undefined && value !== null) {
        return say(`must be text, not ${kindOf(value)}`, {
          hint: `Put it in quotes: ${JSON.stringify(written)}.`,
        });
      }
      return say(`must be ${expectedName(issue.expected)}, not ${shown(value, written)}`);
    case "invalid_value": {
      const values = issue.values.map(String);
      const suggestion = nearestName(written ?? "", values);
      return say(`must be one of ${values.join(", ")}, not ${shown(value, written)}`, {
        ...(suggestion === undefined ? {} : { hint: `Did you mean "${suggestion}"?`, suggestion }),
      });
    }
    default:
      return say(
        issue.message.startsWith("must be ") && params?.rule !== true
          ? `${issue.message}, not ${shown(value, written)}`
          : issue.message,
      );
  }
}

function describeTime(
  say: (message: string, more?: Partial<Finding>) => Finding,
  value: bigint,
  written: string | undefined,
): Finding {
  if (written?.includes(":") !== true) {
    return say("must be text, not a number", { hint: `Put it in quotes: "${written ?? value}".` });
  }
  return say(`became the number ${value}, since YAML 1.1 reads ${written} as base 60`, {
    hint: `Put it in quotes: "${written}".`,
  });
}

function expectedName(expected: string): string {
  const names: Readonly<Record<string, string>> = {
    string: "text",
    object: "a map",
    record: "a map",
    array: "a list",
    boolean: "true or false",
  };
  return names[expected] ?? expected;
}

function shown(value: unknown, written: string | undefined): string {
  if (value === null || written === undefined) return kindOf(value);
  return typeof value === "string" ? JSON.stringify(written) : written;
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
