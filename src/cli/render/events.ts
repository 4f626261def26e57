import type { EventEnvelope } from "../../events/event.ts";
import { renderColumns } from "./quantity.ts";

/** One line per event: when, who, what, about what, and what else it says. Pure. */
export function renderHistory(events: readonly EventEnvelope[]): string {
  if (events.length === 0) return "No event fits\n";
  const rows = events.map((event) => [
    event.at.slice(0, 19).replace("T", " "),
    event.writer,
    event.type,
    subjectOf(event),
    detailsOf(event),
  ]);
  return `${renderColumns(rows).join("\n")}\n`;
}

function subjectOf({ unit, leaf, batch, attempt }: EventEnvelope): string {
  const lease = batch === undefined ? undefined : `batch ${batch} attempt ${attempt ?? "?"}`;
  return [unit, leaf, lease].filter((part) => part !== undefined).join(" ");
}

/** Of the envelope: said in the other columns, or of no use to people. */
const envelope = new Set(
  "schema_version type run unit batch attempt leaf job node writer seq at shortened fingerprint".split(
    " ",
  ),
);
const longest = 100;

function detailsOf(event: EventEnvelope): string {
  return Object.entries(event)
    .filter(([key, value]) => !envelope.has(key) && value !== undefined)
    .map(([key, value]) => `${key}=${shown(value)}`)
    .join(" ");
}

function shown(value: unknown): string {
  const text = typeof value === "string" ? value : JSON.stringify(value);
  const line = text.replaceAll(/\s+/g, " ");
  return line.length > longest ? `${line.slice(0, longest)}…` : line;
}
