import { type FileHandle, open } from "node:fs/promises";
import {
  type AnswerRecord,
  headerBytes,
  type JournalRecord,
  scanJournal,
  sealOf,
} from "./journal-format.ts";

/** An answer that is still to be given. */
export interface Kept extends Pick<AnswerRecord, "headBytes" | "bodyBytes" | "seal"> {
  /** Of its journal in the list of those that are read. */
  readonly journal: number;
  /** Of its header. */
  readonly at: number;
}

/** Head and body of an answer as they were kept. */
export interface KeptBytes {
  /** Status line and fields, latin1. */
  readonly head: string;
  readonly body: Buffer;
}

/** The answers of earlier evaluations: each is given once, equal requests get theirs in the order in which they were kept. */
export class EarlierAnswers {
  readonly #files: readonly (FileHandle | undefined)[];
  readonly #kept: Map<string, Kept[]>;

  private constructor(files: readonly (FileHandle | undefined)[], kept: Map<string, Kept[]>) {
    this.#files = files;
    this.#kept = kept;
  }

  /**
   * @param journals of earlier evaluations; those that can't be read, or of other servers, hold nothing
   * @param own journals of this very evaluation, which say what it has been given already
   */
  static async open(
    journals: readonly string[],
    own: readonly string[],
    identity: string,
  ): Promise<EarlierAnswers> {
    const used = new Set<string>();
    for (const path of own) {
      const file = await scan(path, identity, (record) => {
        if (record.kind === "used") used.add(`${record.journal} ${record.at}`);
      });
      await file?.close();
    }
    const files: (FileHandle | undefined)[] = [];
    const kept = new Map<string, Kept[]>();
    for (const [journal, path] of journals.entries()) {
      const file = await scan(path, identity, (record, at) => {
        if (record.kind !== "answer" || used.has(`${journal} ${at}`)) return;
        const { key, headBytes, bodyBytes, seal } = record;
        const one = { journal, at, headBytes, bodyBytes, seal };
        const equals = kept.get(key);
        if (equals === undefined) kept.set(key, [one]);
        else equals.push(one);
      });
      files.push(file);
    }
    return new EarlierAnswers(files, kept);
  }

  /** All have been given. */
  get isEmpty(): boolean {
    return this.#kept.size === 0;
  }

  /** An answer to this request that nobody has taken. */
  take(key: string): Kept | undefined {
    const equals = this.#kept.get(key);
    const first = equals?.shift();
    if (equals?.length === 0) this.#kept.delete(key);
    return first;
  }

  /** @returns undefined when its bytes are not what they were. */
  async read({ journal, at, headBytes, bodyBytes, seal }: Kept): Promise<KeptBytes | undefined> {
    const bytes = Buffer.allocUnsafe(headBytes + bodyBytes);
    try {
      const file = this.#files[journal];
      const read = await file?.read(bytes, 0, bytes.length, at + headerBytes);
      if (read?.bytesRead !== bytes.length || sealOf([bytes]) !== seal) return undefined;
    } catch {
      return undefined;
    }
    return { head: bytes.toString("latin1", 0, headBytes), body: bytes.subarray(headBytes) };
  }

  async close(): Promise<void> {
    this.#kept.clear();
    await Promise.all(this.#files.map((file) => file?.close().catch(() => {})));
  }
}

/** @returns the file, open; undefined when it can't be read, or not any more. */
async function scan(
  path: string,
  identity: string,
  onRecord: (record: JournalRecord, at: number) => void,
): Promise<FileHandle | undefined> {
  let file: FileHandle | undefined;
  try {
    file = await open(path, "r");
    await scanJournal(file, identity, onRecord);
  } catch {
    // What was found up to here can be read, or will turn out not to be.
  }
  return file;
}
