import { access, readFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { errnoAdvice, errnoName, isMissing, messageOf, UsageError } from "../base/errors.ts";
import { sha256 } from "../base/hash.ts";
import { isRecord } from "./construct.ts";
import { ConfigError, dotted, type Finding, type Issue } from "./issue.ts";
import { checkRules } from "./rules.ts";
import { Config } from "./schema.ts";
import { describeIssue } from "./schema-issues.ts";
import { withoutNotes } from "./schema-walk.ts";
import { parseYaml, type YamlSource } from "./source.ts";
import { findWarnings } from "./warnings.ts";

export interface LoadedConfig {
  readonly config: Config;
  /** Absolute. */
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
 * @param file as the user gave it: mistakes name it so. @param baseDirectory absolute: where a relative one starts.
 * @throws {ConfigError} with every mistake of the file.
 * @throws {UsageError} when the file can't be read.
 */
export async function loadConfig(file: string, baseDirectory: string): Promise<LoadedConfig> {
  const path = resolve(baseDirectory, file);
  return { ...parseConfig(file, await readConfig(file, path)), path };
}

/** As loadConfig, without the disk. @throws {ConfigError} */
export function parseConfig(file: string, text: string): LoadedConfig {
  const source = parseYaml(file, text);
  if (source.value === undefined) throw new ConfigError(file, source.mistakes);
  const value = withoutNotes(source.value, Config);
  const parsed = Config.safeParse(value);
  const findings = withoutConsequences([
    ...(parsed.error?.issues ?? []).flatMap((issue) => describeIssue(issue, source)),
    ...(isRecord(value) ? checkRules(value) : []),
  ]);
  const mistaken = new Set(source.mistakes.map(({ line, column }) => `${line}:${column}`));
  const found = findings
    .map(source.locate)
    .filter(({ line, column }) => !mistaken.has(`${line}:${column}`));
  const issues = [...source.mistakes, ...found, ...findInDoubles(source)];
  if (!parsed.success || issues.length > 0) throw new ConfigError(file, inFileOrder(issues));
  const warnings = inFileOrder(findWarnings(parsed.data).map(source.locate));
  return { config: parsed.data, path: file, text, sha256: sha256(text), warnings, source };
}

/** Mistakes in the values of keys that stand there again: of each only the last one counts, and the others are read too. */
function findInDoubles({ file, text, mostDoubles }: YamlSource): Issue[] {
  return Array.from({ length: mostDoubles - 1 }, (_, n) => parseYaml(file, text, n)).flatMap(
    (source) => {
      const { error } = Config.safeParse(withoutNotes(source.value, Config));
      const findings = (error?.issues ?? []).flatMap((issue) => describeIssue(issue, source));
      return withoutConsequences(findings).map(source.locate);
    },
  );
}

/** A key that is missing because it is misspelled is one mistake, not two. */
function withoutConsequences(findings: readonly Finding[]): Finding[] {
  const meant = new Set(
    findings.flatMap(({ path, at, suggestion }) =>
      at === "key" && suggestion !== undefined ? [dotted([...path.slice(0, -1), suggestion])] : [],
    ),
  );
  return findings.filter(({ needs }) => needs === undefined || !meant.has(dotted(needs)));
}

/** Several entries may share a mistake through an anchor: it is told once. */
export function inFileOrder(issues: readonly Issue[]): Issue[] {
  const seen = new Map(
    issues.map((issue) => [`${issue.line}:${issue.column} ${issue.message}`, issue]),
  );
  return [...seen.values()].sort((a, b) => a.line - b.line || a.column - b.column);
}

/** The text with its byte order mark, if it has one: the run directory keeps the file byte for byte. */
async function readConfig(file: string, path: string): Promise<string> {
  const refuse = (why: string, hint?: string): UsageError =>
    new UsageError(
      "config.unreadable",
      `Cannot read config "${file}": ${why}`,
      hint ? { hint } : {},
    );
  let bytes: Uint8Array;
  try {
    bytes = await readFile(path);
  } catch (error) {
    if (isMissing(error)) throw refuse("there is no such file");
    if (errnoName(error) !== "EISDIR") throw refuse(errnoAdvice(error) ?? messageOf(error));
    const frozen = join(file, "eh_config.yaml");
    const isRun = await access(join(path, "eh_config.yaml")).then(
      () => true,
      () => false,
    );
    throw refuse("it is a directory", isRun ? `Did you mean "${frozen}"?` : undefined);
  }
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw refuse("it is not UTF-8 text", `Convert it, e.g. iconv -f latin1 -t utf-8 ${file}`);
  }
}
