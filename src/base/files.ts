import { randomBytes } from "node:crypto";
import { constants, copyFile, link, mkdir, open, readFile, rename, rm } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { errnoName, isMissing } from "./errors.ts";
import { shareNext } from "./share-next.ts";

/** A name in the same directory that no reader takes for the file: dotted, unique to this call. */
function temporaryName(path: string): string {
  return join(dirname(path), `.${basename(path)}.${randomBytes(6).toString("hex")}.tmp`);
}

/** Content at once, or in pieces as they are made. */
type FileContent = string | Uint8Array | AsyncIterable<Uint8Array>;

/** Calls on an open file fail without saying which: their errors get its path. */
async function about<T>(path: string, call: () => Promise<T>): Promise<T> {
  try {
    return await call();
  } catch (error) {
    if (errnoName(error) !== undefined) Object.assign(error as Error, { path });
    throw error;
  }
}

async function writeDurable(temporary: string, path: string, data: FileContent): Promise<void> {
  const file = await open(temporary, "wx");
  try {
    await about(path, async () => {
      await file.writeFile(data);
      await file.sync();
    });
  } finally {
    await file.close();
  }
}

/** Makes a rename, link or new file in `directory` survive a power cut. Calls at one time share a sync. */
export const syncDirectory = shareNext(async (directory) => {
  const handle = await open(directory, "r");
  try {
    await about(directory, () => handle.sync());
  } catch (error) {
    // Some network file systems cannot fsync a directory, and do not need it.
    if (!["EINVAL", "ENOTSUP", "EOPNOTSUPP", "EBADF"].includes(errnoName(error) ?? "")) throw error;
  } finally {
    await handle.close();
  }
});

/** Replaces `path` in one step: readers see the old content or the new, never a part. Durable on return. */
export async function writeFileAtomic(path: string, data: FileContent): Promise<void> {
  const temporary = temporaryName(path);
  try {
    await writeDurable(temporary, path, data);
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
  await syncDirectory(dirname(path));
}

/**
 * Creates `path` with its whole content, or leaves the one that is there. Durable on return.
 * The link count tells who won even where the network file system answers a repeated call with an error (link(2)).
 * @returns true when this call created it.
 */
export async function writeFileExclusive(
  path: string,
  data: string | Uint8Array,
): Promise<boolean> {
  const temporary = temporaryName(path);
  try {
    await writeDurable(temporary, path, data);
    try {
      await link(temporary, path);
    } catch (error) {
      const handle = await open(temporary, "r");
      const { nlink } = await handle.stat().finally(() => handle.close());
      if (nlink < 2) {
        if (errnoName(error) === "EEXIST") return false;
        throw error;
      }
    }
  } finally {
    await rm(temporary, { force: true });
  }
  await syncDirectory(dirname(path));
  return true;
}

/** Copies a file's content to a new file. Durable on return, but for the name in its directory. */
export async function copyFileDurable(from: string, to: string): Promise<void> {
  await copyFile(from, to, constants.COPYFILE_EXCL);
  const file = await open(to, "r");
  try {
    await about(to, () => file.sync());
  } finally {
    await file.close();
  }
}

/** The file's text, or undefined when there is none. */
export async function readTextIfThere(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    if (isMissing(error)) return undefined;
    throw error;
  }
}

/** Creates a directory with its parents; mode and group follow the parent (setgid) and the umask. */
export async function ensureDirectory(path: string): Promise<void> {
  await mkdir(path, { recursive: true });
}
