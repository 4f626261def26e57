import { CommanderError } from "commander";
import {
  ExitCode,
  errnoName,
  explainSystemError,
  firstThrown,
  messageOf,
  OperatorError,
} from "../base/errors.ts";
import { stringifyJson } from "../base/json.ts";

/** How a command failed, for a person or as JSON. */
export interface Failure {
  readonly code: string;
  readonly message: string;
  readonly exitCode: number;
  readonly hint?: string;
  /** What lies behind it; of a bug, the stack. */
  readonly cause?: string;
  /** Several mistakes in one go. */
  readonly issues?: unknown;
}

/** Pure: whatever a command has thrown. Undefined for a call for help, which is none. */
export function describeFailure(thrown: unknown): Failure | undefined {
  const error = explainSystemError(firstThrown(thrown));
  if (error instanceof CommanderError) return describeUsage(error);
  if (error instanceof OperatorError) {
    const { code, message, exitCode, hint, cause } = error;
    return {
      code,
      message,
      exitCode,
      ...(hint !== undefined && { hint }),
      ...(cause !== undefined && { cause: messageOf(cause) }),
      ...("issues" in error && { issues: error.issues }),
    };
  }
  return describeMisnamed(error) ?? describeBug(error);
}

function describeUsage({ exitCode, message, code }: CommanderError): Failure | undefined {
  if (exitCode === 0) return undefined;
  // Commander shows the help of the program itself under this code.
  const text = code === "commander.help" ? "a command is missing" : message.replace(/^error: /, "");
  return { code: "usage", message: text, exitCode: ExitCode.usage };
}

/** Paths that can't be what the user meant. */
const misnamed = ["ENOTDIR", "EISDIR", "ENAMETOOLONG", "ELOOP"];

function describeMisnamed(error: unknown): Failure | undefined {
  const name = errnoName(error) ?? "";
  if (!misnamed.includes(name)) return undefined;
  return {
    code: `system.${name.toLowerCase()}`,
    message: `Cannot go on: ${messageOf(error)}`,
    exitCode: ExitCode.usage,
  };
}

function describeBug(error: unknown): Failure {
  const stack = error instanceof Error ? error.stack : undefined;
  return {
    code: "bug",
    message: "this is a bug in eval-hive, please report it",
    exitCode: ExitCode.bug,
    cause: stack ?? String(error),
  };
}

/** For stderr, with its last line end. */
export function renderFailure({ code, message, hint, cause }: Failure): string {
  const because = code === "bug" ? cause : `  because: ${cause}`;
  return [
    `eval-hive: ${message}`,
    ...(cause === undefined ? [] : [because]),
    ...(hint === undefined ? [] : [`  ${hint}`]),
    "",
  ].join("\n");
}

/** For stdout: what `--json` gives instead of an answer. */
export function failureData({ exitCode: exit_code, ...error }: Failure): object {
  return { schema_version: 1, error: { ...error, exit_code } };
}

export function renderJson(data: object): string {
  return `${stringifyJson(data, 2)}\n`;
}
