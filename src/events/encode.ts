import * as z from "zod";
import {
  type EventBody,
  EventEnvelope,
  type EventSubject,
  type EventType,
  eventBodies,
} from "./event.ts";

/** An event as its line in the journal, line end included, is never longer. */
export const maxLineBytes = 16 * 1024;

const Subject = z.strictObject({
  unit: z.string().optional(),
  batch: z.string().optional(),
  attempt: z.int().optional(),
  leaf: z.string().optional(),
  job: z.string().optional(),
});

/** Checks an event before anything is written. @throws {TypeError} naming type and place. */
export function checkEvent<T extends EventType>(
  type: T,
  subject: EventSubject,
  body: EventBody<T>,
): { readonly subject: EventSubject; readonly body: Readonly<Record<string, unknown>> } {
  const schema = eventBodies[type] as z.ZodType<Record<string, unknown>> | undefined;
  if (schema === undefined) throw new TypeError(`No event has the type "${type}"`);
  return {
    subject: check(type, Subject, subject) as EventSubject,
    body: check(type, schema, body),
  };
}

function check<T>(type: string, schema: z.ZodType<T>, value: unknown): T {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw new TypeError(
    `Not an event "${type}": ${issue?.path.join(".") ?? ""}: ${issue?.message ?? "invalid"}`,
    { cause: parsed.error },
  );
}

/**
 * The line of an event. What makes it too long is shortened: long strings and lists keep their start and their end, with
 * a mark between them, and the envelope says `shortened`.
 * @throws {TypeError} when the envelope alone is too long.
 */
export function encodeLine(
  envelope: z.input<typeof EventEnvelope>,
  body: Readonly<Record<string, unknown>>,
): string {
  const whole = line({ ...envelope, ...body });
  if (Buffer.byteLength(whole) <= maxLineBytes) return whole;
  for (let limit = 4096; limit >= 16; limit /= 2) {
    const short = shorten(body, limit) as Record<string, unknown>;
    const text = line({ ...envelope, shortened: true, ...short });
    if (Buffer.byteLength(text) <= maxLineBytes) return text;
  }
  throw new TypeError(`Event "${envelope.type}" is longer than ${maxLineBytes} bytes`);
}

function line(event: Record<string, unknown>): string {
  return `${JSON.stringify(EventEnvelope.parse(event))}\n`;
}

/** Strings to about `limit` characters, lists to about a quarter as many members. */
function shorten(value: unknown, limit: number): unknown {
  if (typeof value === "string") {
    const spare = value.length - limit;
    if (spare <= 0) return value;
    const half = Math.floor(limit / 2);
    return `${value.slice(0, half)}[… ${spare} characters …]${value.slice(-half)}`;
  }
  if (Array.isArray(value)) {
    const half = Math.max(Math.floor(limit / 8), 1);
    const spare = value.length - 2 * half;
    const kept =
      spare <= 0 ? value : [...value.slice(0, half), `[… ${spare} more …]`, ...value.slice(-half)];
    return kept.map((member) => shorten(member, limit));
  }
  if (typeof value === "object" && value !== null) {
    return Object.fromEntries(
      Object.entries(value).map(([key, member]) => [key, shorten(member, limit)]),
    );
  }
  return value;
}
