import { rm } from "node:fs/promises";
import { errnoName } from "../base/errors.ts";
import { type FileOpener, JournalFile } from "./journal-file.ts";

/** What is appended is written after so long: a process that is killed loses no more than that. */
const flushMs = 10;
/** What fills a block before that is written at once, and directly. */
const blockBytes = 256 << 10;
/** A disk that is slower than the answers shall not fill the memory. */
const maxBacklogBytes = 64 << 20;
/** With so much on its way the disk is too slow to be written to directly: the page cache takes what comes in bursts. */
const maxDirectBytes = maxBacklogBytes / 2;
/** Of all writers. What is left to the garbage collector makes it go through the whole heap, again and again. */
const free: Buffer[] = [];
const maxFree = maxBacklogBytes / blockBytes;

export interface JournalWriterOptions {
  readonly path: string;
  /** What the file begins with. */
  readonly line: Buffer;
  /** It can't be written, and never will. Called once. */
  readonly onError: (error: unknown) => void;
  /** It is removed when the disk is full: others may need the room more. */
  readonly isDispensable: boolean;
  /** For tests. */
  readonly openFile?: FileOpener;
  readonly typeOf?: (directory: string) => Promise<number>;
}

/** A part of a block that is to be written. */
interface Piece {
  readonly bytes: Buffer;
  /** Nothing else is to be written of it. */
  readonly done?: Buffer;
}

/**
 * Appends to a file that nobody else writes, which is created with the first bytes. Nobody waits for the disk, and nothing is
 * forced to it: what is written survives the process, though not the machine.
 */
export class JournalWriter {
  readonly #options: JournalWriterOptions;
  #file: JournalFile | undefined;
  /** What is appended goes here; so much of it is filled, and so much of that is due, or written. */
  #block: Buffer | undefined;
  #filled = 0;
  #cut = 0;
  #due: Piece[] = [];
  /** Bytes that are not written yet. */
  #backlog = 0;
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
   * @returns false when they are not kept: too much is on its way to the disk, or nothing can be written any more.
   */
  append(pieces: readonly Buffer[]): boolean {
    if (this.#failed || this.#closed || this.#backlog > maxBacklogBytes) return false;
    if (this.#block === undefined) this.#copy(this.#options.line);
    for (const piece of pieces) this.#copy(piece);
    this.#schedule();
    return true;
  }

  /** Waits until all that was appended is written. @returns false when it is not. */
  async flushed(): Promise<boolean> {
    while (this.#backlog > 0 && !this.#failed) {
      this.#cutBlock();
      await this.#flush();
    }
    return !this.#failed;
  }

  /** Writes what is left. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.flushed();
    this.#disarm();
    if (this.#block !== undefined) recycle(this.#block);
    this.#block = undefined;
    const file = this.#file;
    this.#file = undefined;
    await file?.close().catch((error: unknown) => this.#fail(error));
    await this.#left;
  }

  #copy(piece: Buffer): void {
    this.#backlog += piece.length;
    for (let at = 0; at < piece.length; ) {
      this.#block ??= free.pop() ?? allocateBlock();
      const copied = piece.copy(this.#block, this.#filled, at);
      this.#filled += copied;
      at += copied;
      if (this.#filled === blockBytes) this.#endBlock(this.#block);
    }
  }

  #endBlock(block: Buffer): void {
    this.#due.push({ bytes: block.subarray(this.#cut), done: block });
    this.#block = free.pop() ?? allocateBlock();
    this.#filled = 0;
    this.#cut = 0;
    // What is in the next block has not waited for so long.
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  /** What is in the block is not made to wait for more. */
  #cutBlock(): void {
    if (this.#block === undefined || this.#filled === this.#cut) return;
    this.#due.push({ bytes: this.#block.subarray(this.#cut, this.#filled) });
    this.#cut = this.#filled;
  }

  /** While something is written, the rest waits: fewer and larger writes cost less. */
  #schedule(): void {
    if (this.#writing !== undefined || this.#backlog === 0) return;
    if (this.#due.length > 0) {
      // An answer that was just appended is not sent yet: that comes first.
      this.#immediate ??= setImmediate(() => void this.#flush());
    } else {
      this.#timer ??= setTimeout(() => {
        this.#cutBlock();
        void this.#flush();
      }, flushMs);
    }
  }

  #disarm(): void {
    clearTimeout(this.#timer);
    clearImmediate(this.#immediate);
    this.#timer = undefined;
    this.#immediate = undefined;
  }

  async #flush(): Promise<void> {
    this.#disarm();
    this.#writing ??= this.#write().finally(() => {
      this.#writing = undefined;
      this.#schedule();
    });
    await this.#writing;
  }

  /** What is due now: what becomes due meanwhile goes into the next write. */
  async #write(): Promise<void> {
    const { path, openFile, typeOf } = this.#options;
    const due = this.#due;
    this.#due = [];
    const isFast = this.#backlog <= maxDirectBytes;
    try {
      this.#file ??= await JournalFile.create(path, openFile, typeOf);
      for (const { isWhole, pieces } of runs(due)) {
        const bytes = pieces.map((piece) => piece.bytes);
        if (isWhole && isFast) await this.#file.appendDirectly(bytes);
        else await this.#file.append(bytes);
        for (const piece of pieces) this.#settle(piece);
      }
    } catch (error) {
      this.#fail(error);
    }
  }

  #settle({ bytes, done }: Piece): void {
    this.#backlog -= bytes.length;
    if (done !== undefined) recycle(done);
  }

  #fail(error: unknown): void {
    if (this.#failed) return;
    this.#failed = true;
    this.#due = [];
    this.#block = undefined;
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

function recycle(block: Buffer): void {
  if (free.length < maxFree) free.push(block);
}

/** Memory that can grow begins at a page, as what is written directly must; that of other buffers does not. */
function allocateBlock(): Buffer {
  return Buffer.from(new ArrayBuffer(blockBytes, { maxByteLength: blockBytes }));
}

/** Pieces one after the other that can be written in the same way. */
function runs(due: readonly Piece[]): { readonly isWhole: boolean; readonly pieces: Piece[] }[] {
  const found: { readonly isWhole: boolean; readonly pieces: Piece[] }[] = [];
  for (const piece of due) {
    const isWhole = piece.bytes.length === blockBytes;
    const last = found.at(-1);
    if (last?.isWhole === isWhole) last.pieces.push(piece);
    else found.push({ isWhole, pieces: [piece] });
  }
  return found;
}
