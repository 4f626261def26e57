import { ExitCode, OperatorError } from "../base/errors.ts";

/** A key's way from the top of the file, e.g. `["models", "tiny", "steps", 0]`. */
export type KeyPath = readonly (string | number)[];

/** Offsets into the file's text. */
export interface TextRange {
  readonly start: number;
  readonly end: number;
}

/** One mistake in a config, or one thing to look at. */
export interface Issue {
  readonly file: string;
  /** 1-based; columns count UTF-16 units as editors do. */
  readonly line: number;
  readonly column: number;
  /** Dotted, e.g. `models.tiny.steps.0`; empty for the file as a whole. */
  readonly path: string;
  /** What is wrong, without a full stop. */
  readonly message: string;
  /** The way out. */
  readonly hint?: string;
  /** The right spelling, where one is near: what `hint` quotes. */
  readonly suggestion?: string;
  /** The line with a caret below it, and the line before; empty when it is about the file as a whole. */
  readonly frame: string;
}

/** What is said about a place, before the place is looked up in the text. */
export interface Finding {
  readonly path: KeyPath;
  /** Which end of a `key: value` pair it is about. Default: value. */
  readonly at?: "key" | "value";
  readonly message: string;
  readonly hint?: string;
  readonly suggestion?: string;
  /** The key whose absence is the mistake: a misspelling of it beside explains it, and is then all that is told. */
  readonly needs?: KeyPath;
}

/** Thrown when a config can't be used: all that is wrong with it, in the order of the file. */
export class ConfigError extends OperatorError {
  readonly code = "config.invalid";
  readonly exitCode = ExitCode.usage;
  readonly issues: readonly Issue[];

  constructor(file: string, issues: readonly Issue[]) {
    const found = issues.length === 1 ? "1 mistake" : `${issues.length} mistakes`;
    super(`Cannot use config "${file}": ${found}\n\n${issues.map(renderIssue).join("\n\n")}`);
    this.issues = issues;
  }
}

/** `file:line:column: message`, the code frame, the hint. */
export function renderIssue({ file, line, column, message, frame, hint }: Issue): string {
  const place = `${file}:${line}:${column}: ${message}`;
  return [place, frame, ...(hint === undefined ? [] : [`  ${hint}`])]
    .filter((part) => part !== "")
    .join("\n");
}

/** `models.tiny.steps.0` */
export function dotted(path: KeyPath): string {
  return path.join(".");
}
