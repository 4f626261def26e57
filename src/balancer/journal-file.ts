import { constants, mkdir, open, statfs } from "node:fs/promises";
import { dirname } from "node:path";

/** What is needed of an open file. */
export interface OpenFile {
  writev(pieces: readonly Buffer[], position: number): Promise<{ readonly bytesWritten: number }>;
  close(): Promise<void>;
}

/** Opens a file as `open` does; tests have their own. */
export type FileOpener = (path: string, flags: string | number, mode?: number) => Promise<OpenFile>;

/** statfs(2). */
const nfs = 0x6969;

/** A file that is written from its beginning to its end, by nobody else, and for its owner's eyes alone. */
export class JournalFile {
  readonly #cached: OpenFile;
  /** Past the kernel's page cache; undefined where the file system knows no such thing. */
  #direct: OpenFile | undefined;
  #size = 0;

  private constructor(cached: OpenFile, direct: OpenFile | undefined) {
    this.#cached = cached;
    this.#direct = direct;
  }

  /** @param typeOf the file system of a directory, as statfs(2) numbers it */
  static async create(
    path: string,
    openFile: FileOpener = open,
    typeOf = typeOfFileSystem,
  ): Promise<JournalFile> {
    // Whoever cleans up removes directories that are empty.
    await mkdir(dirname(path), { recursive: true });
    const cached = await openFile(path, "wx", 0o600);
    // On NFS each change from one way to the other waits until the server has written the whole file.
    if ((await typeOf(dirname(path))) === nfs) return new JournalFile(cached, undefined);
    const flags = constants.O_WRONLY | constants.O_DIRECT;
    return new JournalFile(cached, await openFile(path, flags).catch(() => undefined));
  }

  async append(pieces: readonly Buffer[]): Promise<void> {
    let left = pieces;
    // A disk that is nearly full takes a part without a word.
    while (left.length > 0) {
      const { bytesWritten } = await this.#cached.writev(left, this.#size);
      left = this.#advance(left, bytesWritten);
    }
  }

  /**
   * The same without a copy in the page cache, which costs more than the disk where the memory for it has to be found first.
   * @param pieces begin and end at whole pages, in memory as in the file; where that is not enough, they are appended as others
   */
  async appendDirectly(pieces: readonly Buffer[]): Promise<void> {
    let bytesWritten = 0;
    try {
      bytesWritten = (await this.#direct?.writev(pieces, this.#size))?.bytesWritten ?? 0;
    } catch {
      // Whatever else is wrong than the way of writing is found below.
      await this.#leaveDirect();
    }
    await this.append(this.#advance(pieces, bytesWritten));
  }

  async close(): Promise<void> {
    await this.#leaveDirect();
    await this.#cached.close();
  }

  /** @returns what is left of the pieces. */
  #advance(pieces: readonly Buffer[], written: number): readonly Buffer[] {
    this.#size += written;
    let skipped = written;
    return pieces.flatMap((piece) => {
      const skips = Math.min(skipped, piece.length);
      skipped -= skips;
      return skips === piece.length ? [] : [piece.subarray(skips)];
    });
  }

  async #leaveDirect(): Promise<void> {
    const direct = this.#direct;
    this.#direct = undefined;
    await direct?.close().catch(() => {});
  }
}

async function typeOfFileSystem(directory: string): Promise<number | undefined> {
  return await statfs(directory).then(
    ({ type }) => type,
    () => undefined,
  );
}
