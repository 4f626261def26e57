import { isCollection } from "yaml";
import { codeFrame, positionOf } from "./code-frame.ts";
import { construct, isRecord, type MemberNodes } from "./construct.ts";
import { dotted, type Finding, type Issue, type KeyPath, type TextRange } from "./issue.ts";
import { parseYamlDocument } from "./parse-document.ts";
import { findSyntaxMistakes } from "./syntax.ts";

/** A YAML file that knows where each of its values stands. */
export interface YamlSource {
  readonly file: string;
  readonly text: string;
  /** As construct.ts gives it; undefined when the file is no YAML at all. */
  readonly value: unknown;
  /** Mistakes in the YAML itself. */
  readonly mistakes: readonly Issue[];
  /** How often one key stands in one map, at most. */
  readonly mostDoubles: number;
  /** Looks up the place: of what is missing, the place of the nearest parent that is there; of the file, its start. */
  locate(finding: Finding): Issue;
  /** The keys of the map at `path` in the order of the file, which objects lose for keys such as "7"; none if it is no map. */
  keys(path: KeyPath): string[];
  /** The scalar at `path` as it is written, without quotes; undefined for maps, lists and what is not there. */
  written(path: KeyPath): string | undefined;
  /** True for a map or list that is written in brackets. */
  isBracketed(path: KeyPath): boolean;
}

/**
 * Parses YAML 1.1. Never throws: mistakes are returned.
 * @param occurrence of a key that stands in a map more than once, from 0: the one that counts. Default: the last.
 */
export function parseYaml(file: string, text: string, occurrence?: number): YamlSource {
  const { document, text: parsed, toOriginal } = parseYamlDocument(text);
  const { value, members, mistakes, mostDoubles } = construct(document, parsed, occurrence);
  const fileStart = toOriginal(document.contents?.range?.[0] ?? 0);
  const issue = (
    at: TextRange | undefined,
    path: string,
    { message, hint, suggestion }: Pick<Finding, "message" | "hint" | "suggestion">,
  ): Issue => {
    const range = at && { start: toOriginal(at.start), end: toOriginal(at.end) };
    return {
      file,
      ...positionOf(text, range?.start ?? fileStart),
      path,
      message,
      ...(hint === undefined ? {} : { hint }),
      ...(suggestion === undefined ? {} : { suggestion }),
      frame: range === undefined ? "" : codeFrame(text, range),
    };
  };
  const syntax = findSyntaxMistakes(document, text);
  // What follows a syntax error is guessed: only the errors themselves are worth reading.
  const all = syntax.length > 0 ? syntax : mistakes;
  const nodesAt = (path: KeyPath): { nodes: MemberNodes | undefined; found: boolean } => {
    let container: unknown = value;
    let nodes: MemberNodes | undefined;
    for (const key of path) {
      const next = members.get(container as object)?.get(String(key));
      if (next === undefined) return { nodes, found: false };
      nodes = next;
      container = (container as Record<string | number, unknown>)[key];
    }
    return { nodes, found: true };
  };
  return {
    file,
    text,
    value: syntax.length > 0 ? undefined : value,
    mostDoubles,
    mistakes: all.map(({ range, ...about }) => issue(range, "", about)),
    locate: ({ path, at = "value", ...about }) => {
      const { nodes, found } = nodesAt(path);
      const node = at === "value" && found ? (nodes?.value ?? nodes?.key) : nodes?.key;
      const [from, to] = node?.range ?? [];
      const range = from === undefined || to === undefined ? undefined : { start: from, end: to };
      return issue(range, dotted(path), about);
    },
    keys: (path) => {
      const map = path.reduce<unknown>((at, key) => (at as Record<string, unknown>)?.[key], value);
      return isRecord(map) ? [...(members.get(map)?.keys() ?? [])] : [];
    },
    isBracketed: (path) => {
      const { nodes, found } = nodesAt(path);
      const node = found ? nodes?.value : undefined;
      return isCollection(node) && node.flow === true;
    },
    written: (path) => {
      const { nodes, found } = nodesAt(path);
      const node = found ? nodes?.value : undefined;
      return node !== undefined && "value" in node ? String(node.value) : undefined;
    },
  };
}
