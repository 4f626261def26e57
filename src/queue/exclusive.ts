import { readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { isMissing } from "../base/errors.ts";
import { writeFileExclusive } from "../base/files.ts";

/** Tries before a directory that is really gone is reported. */
const attempts = 5;

/**
 * As `writeFileExclusive`, in a directory where others sweep what killed writers have left: they may take this call's
 * temporary file for such.
 */
export async function createExclusive(
  path: string,
  content: string | Uint8Array,
): Promise<boolean> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await writeFileExclusive(path, content);
    } catch (error) {
      if (!isMissing(error) || attempt === attempts) throw error;
    }
  }
}

/** Names in a directory; undefined when it is not there. */
export async function listIfThere(directory: string): Promise<string[] | undefined> {
  try {
    return await readdir(directory);
  } catch (error) {
    if (isMissing(error)) return undefined;
    throw error;
  }
}

/**
 * Removes temporary files, and staging directories, that belong to `name`: all that is called `.{name}.…`. What can't be
 * removed stays for whoever comes next: it is in nobody's way, and its owner may still be at work on it.
 */
export async function sweepLeftovers(directory: string, name: string): Promise<void> {
  for (const entry of (await listIfThere(directory)) ?? []) {
    if (entry.startsWith(`.${name}.`)) await removeQuietly(join(directory, entry));
  }
}

/** Removes a file or a tree, if that is possible now. */
export async function removeQuietly(path: string): Promise<void> {
  await rm(path, { recursive: true, force: true, maxRetries: 3, retryDelay: 20 }).catch(() => {});
}
