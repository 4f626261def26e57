import { configJsonSchema, type JsonSchema } from "./json-schema.ts";

/** eval-hive.schema.json. */
export function renderSchema(): string {
  return `${JSON.stringify(configJsonSchema(), undefined, 2)}\n`;
}

/**
 * docs/config.md with all that follows from the schema written anew, between markers:
 * `<!-- keys: PATH -->` … `<!-- end -->` a table of the keys of a block, or of those that are named after its path;
 * `<!-- names: PATH -->` … `<!-- end -->` their names only. PATH is `.` for the top of the file, `*` for any name.
 * @throws {RangeError} for a block or a key that the config does not have.
 */
export function renderReference(page: string): string {
  const schema = configJsonSchema();
  return page.replace(
    /<!-- (keys|names): (\S+)((?: \S+)*) -->\n[\s\S]*?<!-- end -->/g,
    (_all, kind: string, path: string, chosen: string) => {
      const block = blockAt(schema, path);
      const names =
        chosen.trim() === "" ? Object.keys(properties(block)) : chosen.trim().split(" ");
      const text = kind === "keys" ? renderTable(block, names) : renderNames(names);
      return `<!-- ${kind}: ${path}${chosen} -->\n${text}\n<!-- end -->`;
    },
  );
}

/** The keys of each block by its path, for a check that the page leaves none out. */
export function keysByBlock(): Map<string, string[]> {
  const blocks = new Map<string, string[]>();
  const visit = (block: JsonSchema, path: string): void => {
    const members = properties(block);
    const below = (step: string) => (path === "." ? step : `${path}.${step}`);
    if (Object.keys(members).length > 0) blocks.set(path, Object.keys(members));
    for (const [key, member] of Object.entries(members)) visit(member, below(key));
    const any = block["additionalProperties"];
    if (typeof any === "object" && any !== null) visit(any as JsonSchema, below("*"));
  };
  visit(configJsonSchema(), ".");
  return blocks;
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

function renderNames(names: readonly string[]): string {
  return `${names.map((name) => `\`${name}\``).join(", ")}.`;
}

function renderTable(block: JsonSchema, names: readonly string[]): string {
  const members = properties(block);
  const required = new Set((block["required"] ?? []) as string[]);
  const rows = names.map((name) => {
    const member = members[name];
    if (member === undefined) throw new RangeError(`The config has no key "${name}" here`);
    const fallback = required.has(name) ? "required" : renderDefault(member["default"]);
    return `| \`${name}\` | ${typeName(member)} | ${fallback} | ${inCell(member["description"])} |`;
  });
  return ["| key | type | default | meaning |", "|---|---|---|---|", ...rows].join("\n");
}

/** Nothing for null, maps and lists: the former is what a key that is left out means anyway, the latter have keys of their own. */
function renderDefault(value: unknown): string {
  return value == null || typeof value === "object" ? "" : `\`${String(value)}\``;
}

function inCell(text: unknown): string {
  return String(text ?? "").replaceAll("|", "\\|");
}

function typeName(member: JsonSchema): string {
  if (Array.isArray(member["enum"])) {
    return member["enum"].map((one) => `\`${String(one)}\``).join(", ");
  }
  if (Array.isArray(member["anyOf"])) {
    const forms = (member["anyOf"] as JsonSchema[]).map(typeName);
    return [...new Set(forms)].filter((form) => form !== "").join(" or ");
  }
  const types = [member["type"]]
    .flat()
    .map(String)
    .filter((type) => type !== "null");
  if (types[0] === "integer") return integerName(member, types);
  if (types[0] === "array") return `list of ${typeName(member["items"] as JsonSchema)}`;
  return types.map(word).join(" or ");
}

/** Numbers may also be written as text: that goes without saying, unless the text is of another kind, as for tokens. */
function integerName({ minimum, pattern }: JsonSchema, types: readonly string[]): string {
  if (pattern === undefined) return types.map(word).join(" or ");
  return typeof minimum === "number" ? `integer ≥ ${minimum}` : "integer";
}

function word(type: string): string {
  const words: Readonly<Record<string, string>> = {
    string: "text",
    object: "map",
    boolean: "true, false",
  };
  return words[type] ?? type;
}
