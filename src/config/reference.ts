import { configJsonSchema, type JsonSchema } from "./json-schema.ts";

/** eval-hive.schema.json. */
export function renderSchema(): string {
  return `${JSON.stringify(configJsonSchema(), undefined, 2)}\n`;
}

/**
 * docs/config.md with its tables written anew. A table stands between `<!-- keys: path -->` and `<!-- end -->`; `path` is
 * that of a block, `.` for the top of the file, `*` for any name; keys may be named after a colon to choose some of them.
 */
export function renderReference(page: string): string {
  const schema = configJsonSchema();
  return page.replace(
    /<!-- keys: (\S+)((?: \S+)*) -->\n[\s\S]*?<!-- end -->/g,
    (_all, path: string, names: string) => {
      const keys = names.trim() === "" ? undefined : names.trim().split(" ");
      const table = renderKeys(blockAt(schema, path), keys);
      return `<!-- keys: ${path}${names} -->\n${table}\n<!-- end -->`;
    },
  );
}

/** Keys of a block, for a check that the page leaves none out. */
export function keysOf(path: string): string[] {
  return Object.keys(properties(blockAt(configJsonSchema(), path)));
}

function blockAt(schema: JsonSchema, path: string): JsonSchema {
  const steps = path.split(".").filter((step) => step !== "");
  return steps.reduce<JsonSchema>((at, step) => {
    const next = step === "*" ? at["additionalProperties"] : properties(at)[step];
    if (next === undefined) throw new RangeError(`The config has no block "${path}"`);
    return next as JsonSchema;
  }, schema);
}

function properties(block: JsonSchema): Record<string, JsonSchema> {
  return (block["properties"] ?? {}) as Record<string, JsonSchema>;
}

function renderKeys(block: JsonSchema, names: readonly string[] | undefined): string {
  const members = properties(block);
  const required = new Set((block["required"] ?? []) as string[]);
  const rows = (names ?? Object.keys(members)).map((name) => {
    const member = members[name];
    if (member === undefined) throw new RangeError(`The config has no key "${name}" here`);
    const fallback = required.has(name) ? "required" : renderDefault(member);
    return `| \`${name}\` | ${typeName(member)} | ${fallback} | ${descriptionOf(member)} |`;
  });
  return ["| key | type | default | meaning |", "|---|---|---|---|", ...rows].join("\n");
}

function renderDefault(member: JsonSchema): string {
  return member["default"] === undefined ? "" : `\`${JSON.stringify(member["default"])}\``;
}

function descriptionOf(member: JsonSchema): string {
  const own =
    member["description"] ??
    alternatives(member).find((one) => one["description"])?.["description"];
  return String(own ?? "").replaceAll("|", "\\|");
}

function alternatives(member: JsonSchema): JsonSchema[] {
  return (member["anyOf"] ?? []) as JsonSchema[];
}

function typeName(member: JsonSchema): string {
  if (Array.isArray(member["enum"])) return member["enum"].map((one) => `\`${one}\``).join(", ");
  const parts = alternatives(member);
  if (parts.length > 0) return [...new Set(parts.map(typeName))].join(" or ");
  const { type } = member;
  if (Array.isArray(type)) return type.map(word).join(" or ");
  if (type === "array") return `list of ${typeName(member["items"] as JsonSchema)}`;
  if (type === "integer" && typeof member["minimum"] === "number")
    return `integer ≥ ${member["minimum"]}`;
  return word(String(type));
}

function word(type: string): string {
  const words: Readonly<Record<string, string>> = {
    string: "text",
    object: "map",
    boolean: "true, false",
  };
  return words[type] ?? type;
}
