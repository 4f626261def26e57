import { type FileHandle, mkdir, open, rm } from "node:fs/promises";
import { dirname } from "node:path";
import { errnoName } from "../base/errors.ts";

/** What is appended within so long is written at once: a process that is killed loses no more than that. */
const flushMs = 10;
const blockBytes = 256 << 10;
const maxFreeBlocks = 32;
/** A disk that is slower than the answers shall not fill the memory. */
const maxBacklogBytes = 64 << 20;

/** What a writer needs of a file. */
export type AppendFile = Pick<FileHandle, "writev" | "close">;

export interface JournalWriterOptions {
  readonly path: string;
  /** What the file begins with. */
  readonly line: Buffer;
  /** It can't be written, and never will. Called once. */
  readonly onError: (error: unknown) => void;
  /** It is removed when the disk is full: others may need the room more. */
  readonly isDispensable: boolean;
  /** For tests. */
  readonly openFile?: (path: string) => Promise<AppendFile>;
}

/**
 * Appends to a file that nobody else writes, which is created with the first bytes, for its owner's eyes alone. Nobody waits
 * for the disk, and nothing is forced to it: what is written survives the process, though not the machine.
 */
export class JournalWriter {
  readonly #options: JournalWriterOptions;
  #file: AppendFile | undefined;
  /** In order; the last one has room left. */
  #blocks: Buffer[] = [];
  #room = 0;
  #backlog = 0;
  readonly #free: Buffer[] = [];
  #timer: NodeJS.Timeout | undefined;
  #writing: Promise<void> | undefined;
  #failed = false;
  #closed = false;
  /** Has failed, and is done with its file. */
  #left: Promise<void> | undefined;

  constructor(options: JournalWriterOptions) {
    this.#options = options;
  }

  /**
   * @param pieces are copied
   * @returns false when they are not kept: too much is on its way to the disk, or nothing can be written any more.
   */
  append(pieces: readonly Buffer[]): boolean {
    if (this.#failed || this.#closed || this.#backlog > maxBacklogBytes) return false;
    if (this.#blocks.length === 0 && this.#file === undefined && this.#writing === undefined) {
      this.#copy(this.#options.line);
    }
    for (const piece of pieces) this.#copy(piece);
    this.#timer ??= setTimeout(() => void this.#flush(), flushMs);
    return true;
  }

  /** Waits until all that was appended is written. @returns false when it is not. */
  async flushed(): Promise<boolean> {
    while (this.#backlog > 0 && !this.#failed) await this.#flush();
    return !this.#failed;
  }

  /** Writes what is left. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.flushed();
    clearTimeout(this.#timer);
    const file = this.#file;
    this.#file = undefined;
    await file?.close().catch((error: unknown) => this.#fail(error));
    await this.#left;
  }

  #copy(piece: Buffer): void {
    this.#backlog += piece.length;
    for (let at = 0; at < piece.length; ) {
      if (this.#room === 0) {
        this.#blocks.push(this.#free.pop() ?? Buffer.allocUnsafeSlow(blockBytes));
        this.#room = blockBytes;
      }
      const block = this.#blocks[this.#blocks.length - 1] as Buffer;
      const copied = piece.copy(block, blockBytes - this.#room, at);
      this.#room -= copied;
      at += copied;
    }
  }

  async #flush(): Promise<void> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    if (this.#failed) return;
    this.#writing ??= this.#write().finally(() => {
      this.#writing = undefined;
      if (this.#backlog > 0 && !this.#failed) {
        this.#timer ??= setTimeout(() => void this.#flush(), flushMs);
      }
    });
    await this.#writing;
  }

  /** What is there now: what is appended meanwhile goes into the next write. */
  async #write(): Promise<void> {
    const blocks = this.#blocks;
    const last = blocks.length - 1;
    const filled = blocks.map((block, n) =>
      n === last ? block.subarray(0, blockBytes - this.#room) : block,
    );
    const bytes = this.#backlog;
    this.#blocks = [];
    this.#room = 0;
    try {
      this.#file ??= await (this.#options.openFile ?? create)(this.#options.path);
      await writeWhole(this.#file, filled);
      this.#backlog -= bytes;
      for (const block of blocks) if (this.#free.length < maxFreeBlocks) this.#free.push(block);
    } catch (error) {
      this.#fail(error);
    }
  }

  #fail(error: unknown): void {
    if (this.#failed) return;
    this.#failed = true;
    this.#blocks = [];
    this.#backlog = 0;
    this.#left = this.#leave(error);
    this.#options.onError(error);
  }

  async #leave(error: unknown): Promise<void> {
    const file = this.#file;
    this.#file = undefined;
    await file?.close().catch(() => {});
    const { isDispensable, path } = this.#options;
    const isFull = ["ENOSPC", "EDQUOT"].includes(errnoName(error) ?? "");
    if (isFull && isDispensable) await rm(path, { force: true }).catch(() => {});
  }
}

async function create(path: string): Promise<AppendFile> {
  // Whoever cleans up removes directories that are empty.
  await mkdir(dirname(path), { recursive: true });
  return await open(path, "wx", 0o600);
}

/** A disk that is nearly full takes a part without a word. */
async function writeWhole(file: AppendFile, pieces: Buffer[]): Promise<void> {
  let left = pieces.filter(({ length }) => length > 0);
  while (left.length > 0) {
    let { bytesWritten } = await file.writev(left);
    left = left.flatMap((piece) => {
      const written = Math.min(bytesWritten, piece.length);
      bytesWritten -= written;
      return written === piece.length ? [] : [piece.subarray(written)];
    });
  }
}
