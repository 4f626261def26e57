import type { TextRange } from "./issue.ts";

export interface Position {
  readonly line: number;
  readonly column: number;
}

/** The 1-based place of an offset. */
export function positionOf(text: string, offset: number): Position {
  const before = text.slice(0, offset);
  const lineStart = before.lastIndexOf("\n") + 1;
  return { line: before.split("\n").length, column: before.length - lineStart + 1 };
}

/** Where a terminal's line ends for us. */
const widestLine = 100;

/**
 * The line that holds the range, with a caret below each of its characters, and the line before it. Long lines are cut
 * around the range.
 */
export function codeFrame(text: string, { start, end }: TextRange): string {
  const { line, column } = positionOf(text, start);
  const lines = text.split("\n");
  const shown = printable(lines[line - 1] ?? "");
  const cut = Math.max(0, Math.min(column - 1, shown.length) - (widestLine - 20));
  const width = Math.max(1, Math.min(end - start, shown.length - column + 1, widestLine));
  const gutter = String(line).length;
  const row = (number: string, content: string) =>
    `  ${number.padStart(gutter)} | ${content}`.trimEnd();
  const rows = [
    row(String(line), shown.slice(cut, cut + widestLine)),
    row("", `${" ".repeat(column - 1 - cut)}${"^".repeat(width)}`),
  ];
  const previous = lines[line - 2];
  if (previous !== undefined && previous.trim() !== "" && cut === 0) {
    rows.unshift(row(String(line - 1), printable(previous).slice(0, widestLine)));
  }
  return rows.join("\n");
}

/** As many characters, none of which moves a terminal's cursor. */
function printable(line: string): string {
  return line
    .replace(/\r$/, "")
    .replaceAll("\t", " ")
    .replace(/\p{Cc}/gu, "\ufffd");
}
