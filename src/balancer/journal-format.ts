/**
 * A request journal is one line of JSON, which says whose answers it holds, and then records: a header of fixed length, the
 * head of an answer as text of HTTP, its body. Nothing in it is ever changed, so a process that dies leaves at most a record
 * that is not complete, at the end.
 */
import type { FileHandle } from "node:fs/promises";
import { crc32 } from "node:zlib";
import * as z from "zod";
import { keyBytes } from "./request-key.ts";

/** A kept answer, but for its bytes. */
export interface AnswerRecord {
  readonly kind: "answer";
  /** Of its request. */
  readonly key: string;
  readonly headBytes: number;
  readonly bodyBytes: number;
  /** Of head and body. */
  readonly seal: number;
}

/** Says that an answer of an earlier journal was given to this evaluation. */
export interface UsedRecord {
  readonly kind: "used";
  /** Of the journal in the list of those that the evaluation reads. */
  readonly journal: number;
  /** Of the answer's header in it. */
  readonly at: number;
}

export type JournalRecord = AnswerRecord | UsedRecord;

const Line = z.object({ eval_hive_requests: z.literal(1), identity: z.string() });
const maxLineBytes = 4 << 10;

/** CRC of the rest (4), kind (4), lengths of head and body (8), their seal (4), nothing (4), key. */
export const headerBytes = 24 + keyBytes;
const kinds = { answer: 1, used: 2 } as const;
/** As much as is read at a time to find headers. */
const windowBytes = 64 << 10;

/** The first line. @param identity of the servers whose answers follow */
export function renderLine(identity: string): Buffer {
  return Buffer.from(`${JSON.stringify({ eval_hive_requests: 1, identity })}\n`);
}

/** @param header where it is rendered; more may follow there */
export function renderHeader(record: JournalRecord, header = Buffer.alloc(headerBytes)): Buffer {
  header.writeUInt32LE(kinds[record.kind], 4);
  if (record.kind === "answer") {
    header.writeUInt32LE(record.headBytes, 8);
    header.writeUInt32LE(record.bodyBytes, 12);
    header.writeUInt32LE(record.seal, 16);
    header.writeUInt32LE(0, 20);
    header.write(record.key, 24, "latin1");
  } else {
    header.writeUInt32LE(record.journal, 24);
    header.writeDoubleLE(record.at, 28);
  }
  header.writeUInt32LE(crc32(header.subarray(4, headerBytes)), 0);
  return header;
}

/** @returns undefined for anything else than a header. */
export function parseHeader(header: Buffer): JournalRecord | undefined {
  if (header.readUInt32LE(0) !== crc32(header.subarray(4, headerBytes))) return undefined;
  const kind = header.readUInt32LE(4);
  if (kind === kinds.answer) {
    return {
      kind: "answer",
      key: header.toString("latin1", 24, headerBytes),
      headBytes: header.readUInt32LE(8),
      bodyBytes: header.readUInt32LE(12),
      seal: header.readUInt32LE(16),
    };
  }
  if (kind !== kinds.used) return undefined;
  return { kind: "used", journal: header.readUInt32LE(24), at: header.readDoubleLE(28) };
}

/** Bytes from one that is looked at to the next: two in each sector of a disk. */
const sealEvery = 256;

/**
 * Tells bytes that were written from what is there when a machine went down before they reached the disk: zeros, or what was there
 * before, and whole sectors of it. So it looks at a few bytes of each sector alone; a sum over all of them would be half of what
 * keeping an answer costs.
 */
export function sealOf(pieces: Iterable<Buffer>): number {
  let seal = 0x811c9dc5;
  let last = 0;
  let at = 0;
  for (const piece of pieces) {
    for (; at < piece.length; at += sealEvery) seal = mix(seal, piece[at] as number);
    at -= piece.length;
    last = piece.at(-1) ?? last;
  }
  return mix(seal, last) >>> 0;
}

function mix(seal: number, byte: number): number {
  return Math.imul(seal ^ byte, 0x01000193);
}

/**
 * Tells of all complete records of a journal, in their order: bodies are not read. The first that is not complete ends it.
 * @param identity of a journal whose records count; those of any other are not told
 */
export async function scanJournal(
  file: Pick<FileHandle, "read" | "stat">,
  identity: string,
  onRecord: (record: JournalRecord, at: number) => void,
): Promise<void> {
  const { size } = await file.stat();
  const window = Buffer.allocUnsafe(windowBytes);
  let { bytesRead: filled } = await file.read(window, 0, windowBytes, 0);
  let from = 0;
  let at = endOfLine(window.subarray(0, Math.min(filled, maxLineBytes)), identity);
  if (at === undefined) return;
  while (at + headerBytes <= size) {
    if (at + headerBytes > from + filled) {
      from = at;
      ({ bytesRead: filled } = await file.read(window, 0, windowBytes, at));
      if (filled < headerBytes) return;
    }
    const record = parseHeader(window.subarray(at - from, at - from + headerBytes));
    if (record === undefined) return;
    const end: number = at + headerBytes + contentBytes(record);
    if (end > size) return;
    onRecord(record, at);
    at = end;
  }
}

function contentBytes(record: JournalRecord): number {
  return record.kind === "answer" ? record.headBytes + record.bodyBytes : 0;
}

/** @returns where the records begin; undefined when these are no answers of such servers. */
function endOfLine(start: Buffer, identity: string): number | undefined {
  const end = start.indexOf(10);
  if (end < 0) return undefined;
  try {
    const line = Line.parse(JSON.parse(start.toString("utf8", 0, end)));
    return line.identity === identity ? end + 1 : undefined;
  } catch {
    return undefined;
  }
}
