import { access, constants, stat } from "node:fs/promises";
import { dirname } from "node:path";
import { EnvironmentError, errnoAdvice, errnoName, messageOf, UsageError } from "../base/errors.ts";

const hint = "Correct output_path in the config, or owner and mode of what is there.";

/**
 * Sees, without making anything, that results can be written to `outputPath` or to the directory that will hold it: better
 * now than after hours on a GPU.
 * @throws {UsageError} when a file is in the way. @throws {EnvironmentError} when nothing can be written there.
 */
export async function assertCanHoldResults(outputPath: string): Promise<void> {
  const there = await findDirectory(outputPath);
  await explaining(outputPath, there, () => access(there, constants.W_OK | constants.X_OK));
}

/**
 * The nearest directory at or above `outputPath`.
 * @throws {UsageError} when a file is in the way. @throws {EnvironmentError} when the system can't look.
 */
export async function findDirectory(outputPath: string): Promise<string> {
  for (let at = outputPath; ; at = dirname(at)) {
    const found = await explaining(outputPath, at, () => statIfThere(at));
    if (found?.isDirectory() === true) return at;
    if (found === undefined) continue;
    throw new UsageError(
      "results.no-directory",
      `Cannot write results to "${outputPath}": "${at}" is a file`,
      { hint },
    );
  }
}

async function statIfThere(path: string) {
  return await stat(path).catch((error: unknown) => {
    // Below a file, too, there is nothing: the file comes next.
    if (["ENOENT", "ENOTDIR"].includes(errnoName(error) ?? "")) return undefined;
    throw error;
  });
}

async function explaining<T>(outputPath: string, at: string, call: () => Promise<T>): Promise<T> {
  try {
    return await call();
  } catch (error) {
    if (errnoName(error) === undefined) throw error;
    const state = errnoAdvice(error) ?? messageOf(error);
    throw new EnvironmentError(
      "results.access",
      `Cannot write results to "${outputPath}": "${at}": ${state}`,
      { cause: error, hint },
    );
  }
}
