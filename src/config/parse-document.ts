import { type Document, parseDocument } from "yaml";

/** A parsed text, and the way from the parser's offsets to those of the text as it stands in the file. */
export interface ParsedText {
  readonly document: Document.Parsed;
  /** What was parsed: line by line that of the file, some lines further to the right. */
  readonly text: string;
  toOriginal(offset: number): number;
}

/** How many lists, maps and quoted texts that begin to the left of their key are moved before we give up. */
const mostMoves = 100;

/**
 * Parses YAML 1.1 with the failsafe schema. Like PyYAML, and unlike the parser, it does not care how lines are indented that
 * go on with something in brackets or quotes: they are moved to the right until the parser takes them. A text that is no
 * YAML in this way either is given as the parser sees it, with its errors.
 */
export function parseYamlDocument(text: string): ParsedText {
  const document = parse(text);
  const asItIs = { document, text, toOriginal: (offset: number) => offset };
  if (cutShort(document) === undefined) return asItIs;
  const width = Math.max(...text.split("\n").map((line) => line.length)) + 1;
  let moved: Moved = { text, moves: [], width };
  for (let n = 0; n < mostMoves; n++) {
    const attempt = parse(moved.text);
    if (attempt.errors.length === 0) {
      return { document: attempt, text: moved.text, toOriginal: wayBack(moved) };
    }
    const open = cutShort(attempt);
    const next = open === undefined ? undefined : moveRight(moved, open);
    if (next === undefined) return asItIs;
    moved = next;
  }
  return asItIs;
}

function parse(text: string): Document.Parsed {
  return parseDocument(text, {
    schema: "failsafe",
    version: "1.1",
    uniqueKeys: false,
    prettyErrors: false,
  });
}

/** Something in brackets or quotes that the parser found to end before it was closed. */
interface CutShort {
  readonly at: number;
  readonly closing: string;
}

function cutShort({ errors }: Document.Parsed): CutShort | undefined {
  for (const { message, pos } of errors) {
    const closing = /must be sufficiently indented and end with a (.)|^Missing closing (.)/.exec(
      message,
    );
    if (closing !== null) return { at: pos[0], closing: closing[1] ?? closing[2] ?? "" };
  }
  return undefined;
}

interface Moved {
  readonly text: string;
  /** Offsets in `text` at which blanks were put in, ascending; each the start of a line. */
  readonly moves: readonly number[];
  /** Blanks of each move: more than the longest line had, so further to the right than whatever holds the value. */
  readonly width: number;
}

/** Moves the lines up to the one with the next closing character. @returns undefined when that can't help. */
function moveRight(moved: Moved, { at, closing }: CutShort): Moved | undefined {
  const { text, moves } = moved;
  const first = nextLine(text, at);
  const last = first === undefined ? -1 : text.indexOf(closing, Math.max(first, at));
  if (first === undefined || last < 0 || moves.includes(first)) return undefined;
  const starts = [first];
  for (let end = text.indexOf("\n", first); end >= 0 && end < last; ) {
    starts.push(end + 1);
    end = text.indexOf("\n", end + 1);
  }
  return starts.filter((start) => !moves.includes(start)).reduceRight(insertBlanks, moved);
}

/** The start of the line whose first word is at `at`, or else of the next one. */
function nextLine(text: string, at: number): number | undefined {
  const start = text.lastIndexOf("\n", at - 1) + 1;
  if (start > 0 && text.slice(start, at).trim() === "") return start;
  const end = text.indexOf("\n", at);
  return end < 0 ? undefined : end + 1;
}

function insertBlanks({ text, moves, width }: Moved, at: number): Moved {
  const after = moves.map((move) => (move > at ? move + width : move));
  return {
    text: text.slice(0, at) + " ".repeat(width) + text.slice(at),
    moves: [...after, at].sort((a, b) => a - b),
    width,
  };
}

function wayBack({ moves, width }: Moved): (offset: number) => number {
  return (offset) =>
    moves.reduce((to, at) => (at < offset ? to - Math.min(width, offset - at) : to), offset);
}
