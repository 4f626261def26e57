import { readFile } from "node:fs/promises";
import { errnoAdvice, isMissing, messageOf, UsageError } from "../base/errors.ts";
import { sha256 } from "../base/json.ts";
import { isRecord } from "./construct.ts";
import { ConfigError, type Issue } from "./issue.ts";
import { checkRules } from "./rules.ts";
import { Config } from "./schema.ts";
import { describeIssue } from "./schema-issues.ts";
import { withoutNotes } from "./schema-walk.ts";
import { parseYaml, type YamlSource } from "./source.ts";
import { findWarnings } from "./warnings.ts";

export interface LoadedConfig {
  readonly config: Config;
  /** As it was given. */
  readonly path: string;
  /** Byte for byte what the run directory keeps. */
  readonly text: string;
  readonly sha256: string;
  readonly warnings: readonly Issue[];
  /** Finds the places of later mistakes: a checkpoint that is not on disk. */
  readonly source: YamlSource;
}

/**
 * Reads and checks a config.
 * @param options `text`: the file's content, where it has been read already.
 * @throws {ConfigError} with every mistake of the file.
 * @throws {UsageError} when the file can't be read.
 */
export async function loadConfig(
  path: string,
  options: { readonly text?: string } = {},
): Promise<LoadedConfig> {
  return parseConfig(path, options.text ?? (await readConfig(path)));
}

/** As loadConfig, without the disk. @throws {ConfigError} */
export function parseConfig(path: string, text: string): LoadedConfig {
  const source = parseYaml(path, text);
  if (source.value === undefined) throw new ConfigError(path, source.mistakes);
  const value = withoutNotes(source.value, Config);
  const parsed = Config.safeParse(value);
  const findings = [
    ...(parsed.error?.issues ?? []).flatMap((issue) => describeIssue(issue, source)),
    ...(isRecord(value) ? checkRules(value) : []),
  ];
  const issues = [...source.mistakes, ...findings.map(source.locate)];
  if (!parsed.success || issues.length > 0) throw new ConfigError(path, inFileOrder(issues));
  const warnings = inFileOrder(findWarnings(parsed.data).map(source.locate));
  return { config: parsed.data, path, text, sha256: sha256(text), warnings, source };
}

/** Several entries may share a mistake through an anchor: it is told once. */
export function inFileOrder(issues: readonly Issue[]): Issue[] {
  const seen = new Map(
    issues.map((issue) => [`${issue.line}:${issue.column} ${issue.message}`, issue]),
  );
  return [...seen.values()].sort((a, b) => a.line - b.line || a.column - b.column);
}

async function readConfig(path: string): Promise<string> {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(await readFile(path));
  } catch (error) {
    const why = isMissing(error)
      ? "there is no such file"
      : (errnoAdvice(error) ?? messageOf(error));
    throw new UsageError("config.unreadable", `Cannot read config "${path}": ${why}`, {
      cause: error,
    });
  }
}
