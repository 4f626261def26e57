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

/** Removes temporary files, and staging directories, that belong to `name`: all that is called `.{name}.…`. */
export async function sweepLeftovers(directory: string, name: string): Promise<void> {
  for (const entry of (await listIfThere(directory)) ?? []) {
    if (!entry.startsWith(`.${name}.`)) continue;
    await rm(join(directory, entry), {
      recursive: true,
      force: true,
      maxRetries: 5,
      retryDelay: 20,
    });
  }
}
