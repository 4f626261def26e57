import type { AnswerHead } from "./answer-head.ts";

const blanks = new Set([9, 10, 13, 32]);
const [openBrace, closeBrace, quote, backslash] = [0x7b, 0x7d, 0x22, 0x5c];

/**
 * True for a JSON object that does not end as it begins: servers that die while they write leave such. Where the end of the
 * connection is its end, nothing else tells, and so every brace counts, and nothing at all is no JSON.
 */
export function isCutShort(head: AnswerHead, chunks: readonly Buffer[]): boolean {
  if (head.contentType?.startsWith("application/json") !== true) return false;
  if (head.contentEncoding !== undefined) return false;
  const isAllThatTells = head.framing.kind === "until-close";
  const first = firstByte(chunks);
  if (first === undefined) return isAllThatTells;
  if (first !== openBrace) return false;
  return isAllThatTells ? openObjects(chunks) !== 0 : lastByte(chunks) !== closeBrace;
}

function firstByte(chunks: readonly Buffer[]): number | undefined {
  for (const chunk of chunks) {
    for (let at = 0; at < chunk.length; at++) {
      if (!blanks.has(chunk[at] as number)) return chunk[at];
    }
  }
  return undefined;
}

function lastByte(chunks: readonly Buffer[]): number | undefined {
  for (let n = chunks.length - 1; n >= 0; n--) {
    const chunk = chunks[n] as Buffer;
    for (let at = chunk.length - 1; at >= 0; at--) {
      if (!blanks.has(chunk[at] as number)) return chunk[at];
    }
  }
  return undefined;
}

/** Objects that have begun and not ended. */
function openObjects(chunks: readonly Buffer[]): number {
  let [depth, inString, isEscaped] = [0, false, false];
  for (const chunk of chunks) {
    for (const byte of chunk) {
      if (isEscaped) isEscaped = false;
      else if (inString && byte === backslash) isEscaped = true;
      else if (byte === quote) inString = !inString;
      else if (!inString && byte === openBrace) depth += 1;
      else if (!inString && byte === closeBrace) depth -= 1;
    }
  }
  return depth;
}
