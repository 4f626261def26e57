import { isRecord } from "./construct.ts";
import type { Config } from "./schema.ts";

/** What holds for one model entry: the config without its models, with the entry's overrides and variables. */
export type Settings = Omit<Config, "models">;

/**
 * The settings of the units of one entry: `profile` laid over the config (maps merged, all else replaced), then `vars`
 * filled in for `${NAME}` in every text.
 * @throws {RangeError} when the config has no such entry.
 */
export function resolveProfile(config: Config, entryKey: string): Settings {
  const { models, ...settings } = config;
  const entry = models[entryKey];
  if (entry === undefined) throw new RangeError(`No model entry "${entryKey}"`);
  const merged = merge(settings, entry.profile);
  return fillIn(merged, entry.vars) as Settings;
}

function merge(base: unknown, over: unknown): unknown {
  if (over === undefined) return base;
  if (!isRecord(base) || !isRecord(over)) return over;
  const keys = new Set([...Object.keys(base), ...Object.keys(over)]);
  return Object.fromEntries([...keys].map((key) => [key, merge(base[key], over[key])]));
}

/** `${NAME}` of other names stays: bash and the harness fill those in the job. */
function fillIn(value: unknown, variables: Readonly<Record<string, string>>): unknown {
  if (typeof value === "string") {
    return value.replace(/\$\{([A-Za-z_][A-Za-z0-9_]*)\}/g, (all, name: string) =>
      Object.hasOwn(variables, name) ? (variables[name] ?? all) : all,
    );
  }
  if (Array.isArray(value)) return value.map((item) => fillIn(item, variables));
  if (!isRecord(value)) return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, member]) => [key, fillIn(member, variables)]),
  );
}
