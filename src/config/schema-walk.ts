import * as z from "zod";
import { isRecord } from "./construct.ts";
import type { KeyPath } from "./issue.ts";

/** One layer less: what is inside a default, nullable, optional or transform; undefined when it is none. */
function unwrapped(schema: z.ZodType): z.ZodType | undefined {
  if (schema instanceof z.ZodDefault || schema instanceof z.ZodNullable) {
    return schema.unwrap() as z.ZodType;
  }
  if (schema instanceof z.ZodOptional) return schema.unwrap() as z.ZodType;
  return schema instanceof z.ZodPipe ? (schema.in as z.ZodType) : undefined;
}

/** The object, record or list schema inside all of these. */
function bare(schema: z.ZodType): z.ZodType {
  const inner = unwrapped(schema);
  return inner === undefined ? schema : bare(inner);
}

function member(schema: z.ZodType, key: string | number): z.ZodType | undefined {
  const container = bare(schema);
  if (container instanceof z.ZodObject) return container.shape[key] as z.ZodType | undefined;
  if (container instanceof z.ZodRecord) return container.valueType as z.ZodType;
  if (container instanceof z.ZodArray) return container.element as z.ZodType;
  return undefined;
}

/** The keys that the block at `path` knows; none for maps whose keys are the user's. */
export function knownKeys(schema: z.ZodType, path: KeyPath): string[] {
  let at: z.ZodType | undefined = schema;
  for (const key of path) at = at === undefined ? undefined : member(at, key);
  const block = at === undefined ? undefined : bare(at);
  return block instanceof z.ZodObject ? Object.keys(block.shape) : [];
}

/** What the key at `path` means, or what it is in. */
export function descriptionAt(schema: z.ZodType, path: KeyPath): string | undefined {
  let at: z.ZodType | undefined = schema;
  let meaning: string | undefined;
  for (const key of path) {
    at = at === undefined ? undefined : member(at, key);
    meaning = (at === undefined ? undefined : describedBy(at)) ?? meaning;
  }
  return meaning;
}

/** The outermost description: that of a field before that of the form that its value has. */
function describedBy(schema: z.ZodType): string | undefined {
  if (schema.description !== undefined && schema.description !== "") return schema.description;
  const inner = unwrapped(schema);
  return inner === undefined ? undefined : describedBy(inner);
}

/**
 * The value without its notes: the keys `x-*` of every map that the config defines. Below `models`, one that is a whole
 * entry stays: it may be the name of a model.
 */
export function withoutNotes(value: unknown, schema: z.ZodType): unknown {
  const block = bare(schema);
  if (!isRecord(value)) return value;
  if (block instanceof z.ZodObject) {
    return mapEntries(value, (key, one) => {
      const inner = member(block, key);
      if (inner !== undefined) return withoutNotes(one, inner);
      return key.startsWith("x-") ? undefined : one;
    });
  }
  if (block instanceof z.ZodRecord) {
    const entry = block.valueType as z.ZodType;
    return mapEntries(value, (key, one) =>
      key.startsWith("x-") && !isWhole(one, entry) ? undefined : withoutNotes(one, entry),
    );
  }
  return value;
}

/** True when a map has every key that its schema demands: then it is an entry, whatever its name. */
function isWhole(value: unknown, schema: z.ZodType): boolean {
  const block = bare(schema);
  if (!isRecord(value) || !(block instanceof z.ZodObject)) return false;
  return Object.entries(block.shape).every(
    ([key, field]) => key in value || (field as z.ZodType).safeParse(undefined).success,
  );
}

function mapEntries(
  map: Record<string, unknown>,
  change: (key: string, value: unknown) => unknown,
): Record<string, unknown> {
  const entries = Object.entries(map).map(([key, value]) => [key, change(key, value)] as const);
  return Object.fromEntries(entries.filter(([, value]) => value !== undefined));
}
