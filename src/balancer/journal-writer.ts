import { type FileHandle, mkdir, open, rm } from "node:fs/promises";
import { dirname } from "node:path";
import { errnoName } from "../base/errors.ts";

/** What is appended within so long is written at once: a process that is killed loses no more than that. */
const flushMs = 10;
/** So much is not made to wait for that: what has just come is still near the processor, and as much again comes meanwhile. */
const flushBytes = 256 << 10;
/** What is written in longer pieces is dearer: the kernel looks for as much memory in one piece. */
const blockBytes = 64 << 10;
const maxFreeBlocks = 128;
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

/** Bytes that are appended where they are. */
export interface SharedBytes {
  readonly chunks: readonly Buffer[];
  /** They are to stay as they are until what this returns is called, once. */
  readonly retain: () => () => void;
}

/** What goes into one write. */
class Batch {
  readonly pieces: Buffer[] = [];
  readonly blocks: Buffer[] = [];
  readonly releases: (() => void)[] = [];
  bytes = 0;
}

/**
 * Appends to a file that nobody else writes, which is created with the first bytes, for its owner's eyes alone. Nobody waits
 * for the disk, and nothing is forced to it: what is written survives the process, though not the machine.
 */
export class JournalWriter {
  readonly #options: JournalWriterOptions;
  #file: AppendFile | undefined;
  #batch = new Batch();
  /** In its last block: what was copied there and is no piece yet, and where the next goes. */
  #from = blockBytes;
  #to = blockBytes;
  /** Bytes that are not written yet. */
  #backlog = 0;
  readonly #free: Buffer[] = [];
  #timer: NodeJS.Timeout | undefined;
  #immediate: NodeJS.Immediate | undefined;
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
   * @param shared follow them
   * @returns false when they are not kept: too much is on its way to the disk, or nothing can be written any more.
   */
  append(pieces: readonly Buffer[], shared?: SharedBytes): boolean {
    if (this.#failed || this.#closed || this.#backlog > maxBacklogBytes) return false;
    if (this.#batch.bytes === 0 && this.#file === undefined && this.#writing === undefined) {
      this.#copy(this.#options.line);
    }
    for (const piece of pieces) this.#copy(piece);
    if (shared !== undefined) this.#share(shared);
    this.#schedule();
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
    clearImmediate(this.#immediate);
    const file = this.#file;
    this.#file = undefined;
    await file?.close().catch((error: unknown) => this.#fail(error));
    await this.#left;
  }

  #copy(piece: Buffer): void {
    this.#count(piece.length);
    for (let at = 0; at < piece.length; ) {
      if (this.#to === blockBytes) this.#takeBlock();
      const block = this.#batch.blocks.at(-1) as Buffer;
      const copied = piece.copy(block, this.#to, at);
      this.#to += copied;
      at += copied;
    }
  }

  #share({ chunks, retain }: SharedBytes): void {
    this.#cut();
    for (const chunk of chunks) {
      this.#count(chunk.length);
      this.#batch.pieces.push(chunk);
    }
    this.#batch.releases.push(retain());
  }

  #count(bytes: number): void {
    this.#batch.bytes += bytes;
    this.#backlog += bytes;
  }

  #takeBlock(): void {
    this.#cut();
    this.#batch.blocks.push(this.#free.pop() ?? Buffer.allocUnsafeSlow(blockBytes));
    this.#from = 0;
    this.#to = 0;
  }

  /** What was copied since the last piece is one. */
  #cut(): void {
    const { pieces, blocks } = this.#batch;
    if (this.#to > this.#from)
      pieces.push((blocks.at(-1) as Buffer).subarray(this.#from, this.#to));
    this.#from = this.#to;
  }

  /** While something is written, the rest waits: fewer and larger writes cost less. */
  #schedule(): void {
    if (this.#writing !== undefined || this.#batch.bytes === 0) return;
    if (this.#batch.bytes < flushBytes) {
      this.#timer ??= setTimeout(() => void this.#flush(), flushMs);
    } else {
      // An answer that was just appended is not sent yet: that comes first.
      this.#immediate ??= setImmediate(() => void this.#flush());
    }
  }

  async #flush(): Promise<void> {
    clearTimeout(this.#timer);
    clearImmediate(this.#immediate);
    this.#timer = undefined;
    this.#immediate = undefined;
    this.#writing ??= this.#write().finally(() => {
      this.#writing = undefined;
      this.#schedule();
    });
    await this.#writing;
  }

  /** What is there now: what is appended meanwhile goes into the next write. */
  async #write(): Promise<void> {
    this.#cut();
    const batch = this.#batch;
    this.#batch = new Batch();
    this.#from = blockBytes;
    this.#to = blockBytes;
    try {
      this.#file ??= await (this.#options.openFile ?? create)(this.#options.path);
      await writeWhole(this.#file, batch.pieces);
      this.#backlog -= batch.bytes;
    } catch (error) {
      this.#fail(error);
    } finally {
      this.#forget(batch);
    }
  }

  #forget({ blocks, releases }: Batch): void {
    for (const release of releases) release();
    for (const block of blocks) if (this.#free.length < maxFreeBlocks) this.#free.push(block);
  }

  #fail(error: unknown): void {
    if (this.#failed) return;
    this.#failed = true;
    this.#forget(this.#batch);
    this.#batch = new Batch();
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
