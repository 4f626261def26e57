import { systemClock } from "../base/clock.ts";
import { EnvironmentError, errnoAdvice, errnoName, messageOf, UsageError } from "../base/errors.ts";
import type { BatchId, ShardId } from "../run/ids.ts";

/** Thrown when the file system refuses a call of the queue: full, forbidden, read-only, broken. */
export class QueueAccessError extends EnvironmentError {
  constructor(action: string, path: string, cause: unknown) {
    super(
      "queue.access",
      `Cannot ${action} in "${path}": ${errnoAdvice(cause) ?? messageOf(cause)}`,
      {
        cause,
        hint: "Nothing was lost: mend the cause, then repeat the command.",
      },
    );
  }
}

/** Thrown when the queue's directory is not there, or not there any more. */
export class QueueMissingError extends EnvironmentError {
  constructor(directory: string, options: ErrorOptions = {}) {
    super("queue.missing", `Cannot open queue: nothing at "${directory}"`, {
      ...options,
      hint: "Was the run directory moved or removed? Create it again with create-run; finished leaves are kept in the results.",
    });
  }
}

/** Thrown when batches of a shard have neither entry nor summary: something else than this program removed files. */
export class QueueDamagedError extends EnvironmentError {
  constructor(entries: string, missing: readonly BatchId[]) {
    const more = missing.length > 3 ? ` and ${missing.length - 3} more` : "";
    const names = missing.slice(0, 3).map((id) => `"${id}"`);
    super("queue.damaged", `Cannot read queue: "${entries}" lacks ${names.join(", ")}${more}`, {
      hint: "Run create-run with --force to build the queue anew; finished leaves are kept in the results.",
    });
  }
}

/** Thrown when a unit's id is too long to name a file. */
export class ShardNameError extends UsageError {
  constructor(shard: ShardId, limitBytes: number) {
    super(
      "queue.name-too-long",
      `Cannot publish unit "${shard}": its name has ${Buffer.byteLength(shard)} bytes, ${limitBytes} are possible`,
      { hint: "Give the model a shorter name, or the checkpoint a shorter directory name." },
    );
  }
}

/** What a file server says that fails over or has dropped a client: soon it may know better. */
const passing = ["EIO", "ESTALE", "EREMOTEIO", "ETIMEDOUT"];
const pausesMs = [300, 2_000, 8_000];

/**
 * As `accessing`, for calls that may be repeated, of those who have an evaluation to lose: it tries again, for some 10 s, what
 * may go well the next time.
 */
export async function accessingPatiently<T>(
  action: string,
  path: string,
  call: () => Promise<T>,
): Promise<T> {
  return await accessing(action, path, async () => {
    for (const pauseMs of pausesMs) {
      try {
        return await call();
      } catch (error) {
        if (!passing.includes(errnoName(error) ?? "")) throw error;
        await systemClock.sleep(pauseMs);
      }
    }
    return await call();
  });
}

/** Runs `call`; what the operating system refuses becomes an error that names action and place. */
export async function accessing<T>(
  action: string,
  path: string,
  call: () => Promise<T>,
): Promise<T> {
  try {
    return await call();
  } catch (error) {
    if (errnoName(error) === undefined) throw error;
    throw new QueueAccessError(action, path, error);
  }
}
