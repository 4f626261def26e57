import type { AnswerHead } from "./answer-head.ts";

const blanks = new Set([9, 10, 13, 32]);
const [openBrace, closeBrace] = [0x7b, 0x7d];

/**
 * True for a JSON object that does not end as it begins, or has not begun where the end of the connection is its end: servers
 * that die while they write leave such.
 */
export function isCutShort(head: AnswerHead, chunks: readonly Buffer[]): boolean {
  if (head.contentType?.startsWith("application/json") !== true) return false;
  if (head.contentEncoding !== undefined) return false;
  const first = firstByte(chunks);
  if (first === undefined) return head.framing.kind === "until-close";
  return first === openBrace && lastByte(chunks) !== closeBrace;
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
