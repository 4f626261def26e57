import {
  type Alias,
  type Document,
  isAlias,
  isMap,
  isScalar,
  isSeq,
  type Node,
  type Pair,
  type Scalar,
  visit,
  type YAMLMap,
  type YAMLSeq,
} from "yaml";
import { nearestName } from "../base/nearest.ts";
import { positionOf } from "./code-frame.ts";
import type { TextRange } from "./issue.ts";
import { parsePlainScalar } from "./plain-scalar.ts";

/** A member's places: its key (for list items: the item again) and its value. */
export interface MemberNodes {
  readonly key: Node;
  readonly value: Node | undefined;
}

/** A mistake in the YAML itself, with its place. */
export interface YamlMistake {
  readonly range: TextRange;
  readonly message: string;
  readonly hint?: string;
  readonly suggestion?: string;
}

export interface Constructed {
  /** Maps are plain objects, integers bigints, floats numbers. */
  readonly value: unknown;
  /** By constructed map or list. Merged keys have the place where they are written. */
  readonly members: WeakMap<object, ReadonlyMap<string, MemberNodes>>;
  readonly mistakes: YamlMistake[];
  /** How often one key stands in one map, at most; 1 in a file without mistakes. */
  readonly mostDoubles: number;
}

const tagPrefix = "tag:yaml.org,2002:";

/**
 * Values of a document parsed with the failsafe schema, by the rules of YAML 1.1 as PyYAML has them.
 * @param occurrence of a key that stands in a map more than once, from 0: the one that counts. Default: the last.
 */
export function construct(
  document: Document.Parsed,
  text: string,
  occurrence = Infinity,
): Constructed {
  const builder = new Builder(document, text, occurrence);
  const value = builder.node(document.contents ?? undefined);
  return {
    value,
    members: builder.members,
    mistakes: builder.mistakes,
    mostDoubles: builder.mostDoubles,
  };
}

class Builder {
  readonly members = new WeakMap<object, ReadonlyMap<string, MemberNodes>>();
  readonly mistakes: YamlMistake[] = [];
  readonly #document: Document.Parsed;
  readonly #text: string;
  readonly #occurrence: number;
  mostDoubles = 1;
  /** Anchored nodes are constructed once, however often they are used. */
  readonly #done = new Map<Node, unknown>();
  readonly #open = new Set<Node>();

  constructor(document: Document.Parsed, text: string, occurrence: number) {
    this.#occurrence = occurrence;
    this.#document = document;
    this.#text = text;
  }

  node(node: Node | undefined): unknown {
    if (node === undefined) return null;
    if (isAlias(node)) return this.#alias(node);
    if (isScalar(node)) return this.#scalar(node);
    if (this.#done.has(node)) return this.#done.get(node);
    this.#refuseTag(node);
    this.#open.add(node);
    const value = isMap(node) ? this.#map(node) : isSeq(node) ? this.#list(node) : null;
    this.#open.delete(node);
    this.#done.set(node, value);
    return value;
  }

  #alias(alias: Alias): unknown {
    const target = alias.resolve(this.#document);
    if (target === undefined) {
      const anchors = anchorNames(this.#document);
      const suggestion = nearestName(alias.source, anchors);
      this.#mistake(alias, `unknown anchor "${alias.source}"`, {
        hint:
          suggestion === undefined
            ? "An anchor (&name) must stand above the alias (*name) that uses it."
            : `Did you mean "*${suggestion}"?`,
        suggestion,
      });
      return null;
    }
    if (this.#open.has(target)) {
      this.#mistake(alias, `anchor "${alias.source}" contains itself`, {
        hint: "An alias (*name) stands outside of what its anchor (&name) marks.",
      });
      return null;
    }
    return this.node(target);
  }

  #scalar(scalar: Scalar): unknown {
    const text = String(scalar.value ?? "");
    const tag = scalar.tag?.startsWith(tagPrefix) ? scalar.tag.slice(tagPrefix.length) : scalar.tag;
    if (tag === undefined || tag === "!") {
      return scalar.type === "PLAIN" ? parsePlainScalar(text) : text;
    }
    if (tag === "str") return text;
    const value = parsePlainScalar(text);
    if (tag === "float" && typeof value === "bigint") return Number(value);
    const tagged = { int: "bigint", float: "number", bool: "boolean", null: "object" }[tag];
    if (tagged === undefined) this.#refuseTag(scalar);
    else if (typeof value !== tagged) {
      this.#mistake(scalar, `"${text}" is no value for the tag "!!${tag}"`);
    }
    return value;
  }

  #refuseTag(node: Node): void {
    const tag = isAlias(node) ? undefined : node.tag;
    if (tag === undefined || ["!", `${tagPrefix}map`, `${tagPrefix}seq`].includes(tag)) return;
    const shown = tag.startsWith(tagPrefix) ? `!!${tag.slice(tagPrefix.length)}` : tag;
    this.#mistake(node, `tag "${shown}" is not supported`, { hint: "Leave the tag out." });
  }

  #list(list: YAMLSeq): unknown[] {
    const values: unknown[] = [];
    const members = new Map<string, MemberNodes>();
    for (const item of list.items as Node[]) {
      members.set(String(values.length), { key: item, value: item });
      values.push(this.node(item));
    }
    this.members.set(values, members);
    return values;
  }

  /** Merged keys first, then the map's own, which win: the order in which PyYAML gives them. */
  #map(map: YAMLMap): Record<string, unknown> {
    const entries = new Map<string, unknown>();
    const members = new Map<string, MemberNodes>();
    const pairs = map.items as Pair<Node, Node | null>[];
    const [merge, again] = pairs.filter(isMerge);
    if (merge !== undefined) this.#merge(merge, entries, members);
    if (again !== undefined) {
      const hint =
        "Merge several maps with one: <<: [*first, *second]; the first that has a key wins.";
      this.#mistake(again.key, 'duplicate key "<<"', { hint });
    }
    const own = new Map<string, Node[]>();
    for (const pair of pairs) {
      if (isMerge(pair)) continue;
      const name = this.#key(pair.key);
      const before = own.get(name) ?? [];
      const first = before.at(-1);
      if (first !== undefined) this.#duplicate(pair.key, name, first);
      own.set(name, [...before, pair.key]);
      this.mostDoubles = Math.max(this.mostDoubles, before.length + 1);
      const value = this.node(pair.value ?? undefined);
      if (before.length > this.#occurrence) continue;
      members.set(name, { key: pair.key, value: pair.value ?? undefined });
      entries.set(name, value);
    }
    const value = Object.fromEntries(entries);
    this.members.set(value, members);
    return value;
  }

  #duplicate(key: Node, name: string, first: Node): void {
    const { line } = positionOf(this.#text, first.range?.[0] ?? 0);
    this.#mistake(key, `duplicate key "${name}"`, {
      hint: `It stands in line ${line} already, and YAML would silently take the last: keep one.`,
    });
  }

  #key(key: Node): string {
    const text = isScalar(key) ? String(key.value ?? "") : undefined;
    const value = this.node(key);
    if (typeof value === "string") return value;
    if (text === undefined && !isAlias(key)) {
      const hint = 'Text that begins with "{" or "[" needs quotes.';
      this.#mistake(key, `a key must be text, not ${kindOf(value)}`, { hint });
    } else {
      this.#mistake(key, `key ${text ?? String(value)} is ${kindOf(value)}, not text`, {
        hint: `Put it in quotes: "${text ?? String(value)}".`,
      });
    }
    return text ?? String(value);
  }

  /** `<<: *anchor`, or a list of them, where the first wins. */
  #merge(
    pair: Pair<Node, Node | null>,
    entries: Map<string, unknown>,
    members: Map<string, MemberNodes>,
  ): void {
    const value = this.node(pair.value ?? undefined);
    const maps = Array.isArray(value) ? value.toReversed() : [value];
    for (const map of maps as unknown[]) {
      if (!isRecord(map)) {
        if (this.mistakes.length === 0)
          this.#mistake(pair.key, `"<<" merges maps, not ${kindOf(map)}`, {
            hint: "Write <<: *anchor, or <<: [*first, *second].",
          });
        continue;
      }
      for (const [name, member] of Object.entries(map)) {
        entries.set(name, member);
        const nodes = this.members.get(map)?.get(name);
        if (nodes !== undefined) members.set(name, nodes);
      }
    }
  }

  #mistake(
    node: Node,
    message: string,
    { hint, suggestion }: { hint?: string; suggestion?: string | undefined } = {},
  ): void {
    const [start, end] = node.range ?? [0, 0, 0];
    this.mistakes.push({
      range: { start, end },
      message,
      ...(hint === undefined ? {} : { hint }),
      ...(suggestion === undefined ? {} : { suggestion }),
    });
  }
}

function isMerge(pair: Pair<Node, Node | null>): boolean {
  return isScalar(pair.key) && pair.key.type === "PLAIN" && pair.key.value === "<<";
}

function anchorNames(document: Document.Parsed): string[] {
  const names: string[] = [];
  visit(document, {
    Node: (_key, node) => {
      if (!isAlias(node) && node.anchor !== undefined) names.push(node.anchor);
    },
  });
  return names;
}

export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** What a value is, in words of the file: `a number`, `true or false`, `a list` … */
export function kindOf(value: unknown): string {
  if (value === null || value === undefined) return "empty";
  if (typeof value === "boolean") return "true or false";
  if (typeof value === "bigint" || typeof value === "number") return "a number";
  if (typeof value === "string") return "text";
  return Array.isArray(value) ? "a list" : "a map";
}
