/** Exit codes of every command; 128 + n means ended by signal n. */
export const ExitCode = {
  done: 0,
  bug: 1,
  usage: 2,
  environment: 3,
  incomplete: 4,
  tryAgain: 75,
} as const;

export interface OperatorErrorOptions extends ErrorOptions {
  /** What to do about it: one sentence. */
  readonly hint?: string;
}

/**
 * An error that its reader can mend: bad input, a missing program, a full disk. Everything else that is thrown is a bug.
 * The message names the action, then the state, and has no full stop.
 */
export abstract class OperatorError extends Error {
  /** Stable and dotted, e.g. `config.invalid`; what scripts match. */
  abstract readonly code: string;
  abstract readonly exitCode: number;
  readonly hint: string | undefined;

  constructor(message: string, options: OperatorErrorOptions = {}) {
    super(message, options);
    this.name = new.target.name;
    this.hint = options.hint;
  }
}

/** Thrown when the command line or a file that the user wrote can't be used as it is. */
export class UsageError extends OperatorError {
  readonly exitCode = ExitCode.usage;
  readonly code: string;

  constructor(code: string, message: string, options?: OperatorErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/** Thrown when this machine lacks something: Python, lm_eval, Slurm, space, rights. */
export class EnvironmentError extends OperatorError {
  readonly exitCode = ExitCode.environment;
  readonly code: string;

  constructor(code: string, message: string, options?: OperatorErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/** libuv has no names for these, and an HPC file system reports them often (errno.h, Linux). */
const extraErrnos: Readonly<Record<number, readonly [name: string, advice: string]>> = {
  116: ["ESTALE", "the file was replaced on the file server: try again"],
  121: ["EREMOTEIO", "the file server reports an input/output error"],
  122: ["EDQUOT", "the disk quota is used up: free space or inodes (lfs quota, quota -s)"],
};

const adviceByCode: Readonly<Record<string, string>> = {
  ENOSPC: "the file system is full, or has no inodes left: free some (df -h, df -i)",
  EACCES: "permission denied: check owner, group and mode",
  EPERM: "operation not permitted: check owner, group and mode",
  EROFS: "the file system is read-only",
  EMFILE: "too many open files: raise ulimit -n",
  EIO: "the file system reports an input/output error",
};

/** The errno name of a system error, e.g. `ENOSPC`, also where libuv has none; undefined for any other value. */
export function errnoName(error: unknown): string | undefined {
  if (!(error instanceof Error) || !("code" in error)) return undefined;
  const errno = "errno" in error && typeof error.errno === "number" ? Math.abs(error.errno) : 0;
  const known = extraErrnos[errno];
  if (known !== undefined) return known[0];
  return typeof error.code === "string" && /^E[A-Z0-9]+$/.test(error.code) ? error.code : undefined;
}

/** True when the file or directory of a failed call does not exist. */
export function isMissing(error: unknown): boolean {
  return errnoName(error) === "ENOENT";
}

/** What a person can do about a system error; undefined when it is none. */
export function errnoAdvice(error: unknown): string | undefined {
  const name = errnoName(error);
  if (name === undefined) return undefined;
  return Object.values(extraErrnos).find(([known]) => known === name)?.[1] ?? adviceByCode[name];
}

/** Thrown for a refused call to the operating system that a person can mend, where nobody has put it in better words. */
export class SystemCallError extends EnvironmentError {
  constructor(error: Error, advice: string) {
    const { syscall = "use", path, dest } = error as NodeJS.ErrnoException & { dest?: string };
    const places = [path, dest].filter((place) => place !== undefined);
    const what = `${syscall} ${places.map((place) => `"${place}"`).join(" to ")}`.trim();
    super(`system.${errnoName(error)?.toLowerCase()}`, `Cannot ${what}: ${advice}`, {
      hint: "Nothing was lost: mend the cause, then repeat the command.",
    });
  }
}

/** What was refused for a reason that a person can mend, as an operator error; anything else as it is. */
export function explainSystemError(error: unknown): unknown {
  const advice = errnoAdvice(error);
  return advice === undefined ? error : new SystemCallError(error as Error, advice);
}

/** Of an error and those that its cleaning up has led to, the first: the others are consequences. */
export function firstThrown(error: unknown): unknown {
  let first = error;
  // The Node that is told that it is too old may not have it.
  if (typeof SuppressedError === "undefined") return first;
  while (first instanceof SuppressedError) first = first.suppressed;
  return first;
}

/** The message of anything that was thrown. */
export function messageOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  // What libuv says where it has no name.
  return error.message.replace(
    /^(Unknown system error -\d+): \1/,
    (text) => errnoName(error) ?? text,
  );
}
