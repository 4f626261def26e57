import { z } from "zod";
import { isRecord } from "./construct.ts";
import type { KeyPath } from "./issue.ts";

/** The object, record or list schema inside defaults, nullables, optionals and transforms. */
function bare(schema: z.ZodType): z.ZodType {
  let inner = schema;
  for (;;) {
    if (inner instanceof z.ZodDefault || inner instanceof z.ZodNullable) {
      inner = inner.unwrap() as z.ZodType;
    } else if (inner instanceof z.ZodOptional) inner = inner.unwrap() as z.ZodType;
    else if (inner instanceof z.ZodPipe) inner = inner.in as z.ZodType;
    else return inner;
  }
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

/**
 * The value without its notes: `x-*` keys of blocks, and those of maps of blocks (`models`) that are no entries of their
 * own. In maps of the user's own names (`env_vars`, `model_args` …) such a key is a name like any other.
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
  if (block instanceof z.ZodRecord && bare(block.valueType as z.ZodType) instanceof z.ZodObject) {
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
