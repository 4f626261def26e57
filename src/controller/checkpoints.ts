import { isAbsolute, resolve } from "node:path";
import { errnoAdvice, errnoName, isMissing, messageOf } from "../base/errors.ts";
import { mapConcurrently } from "../base/map-concurrently.ts";
import { ConfigError, type Finding, type Issue } from "../config/issue.ts";
import { inFileOrder, type LoadedConfig } from "../config/load.ts";
import type { ModelEntry } from "../config/model-block.ts";
import { add, type Integer, multiply } from "../config/quantities.ts";
import { type UnitId, unitId } from "../run/ids.ts";
import type { Manifest, ManifestEntry } from "../run/manifest.ts";
import {
  directoryNames,
  findCheckpoints,
  isLocal,
  joinAsPathlib,
  lookAt,
  type Presence,
} from "./model-paths.ts";

export interface ResolveOptions {
  /** Absolute: where relative paths start. */
  readonly baseDirectory: string;
  /** A step that is not there yet is an error. */
  readonly strict?: boolean;
  /** A local model path that is not there is a warning. */
  readonly allowMissingPaths?: boolean;
  /** What else was found to be wrong on disk: told together with what is wrong with the models. */
  readonly mistakes?: readonly Finding[];
}

/** Steps that an entry names and the disk does not hold yet: training may still write them. */
export interface NotFound {
  /** The entry's key under `models`. */
  readonly model: string;
  /** Its path, as in the config. */
  readonly path: string;
  readonly steps: Integer[];
}

export interface ResolvedUnits {
  readonly manifest: Manifest;
  /** The entry under `models` that each unit came from. */
  readonly entryOf: ReadonlyMap<UnitId, string>;
  readonly presence: ReadonlyMap<UnitId, Presence>;
  readonly notFound: readonly NotFound[];
  readonly warnings: readonly Issue[];
}

interface Unit {
  readonly id: UnitId;
  readonly manifest: ManifestEntry;
  readonly presence: Presence;
}

/** What one entry of `models` comes to. */
interface EntryUnits {
  readonly units: readonly Unit[];
  readonly notFound: readonly Integer[];
  readonly errors: readonly Finding[];
  readonly warnings: readonly Finding[];
}

/**
 * The units of a config, with one look at the disk per model entry. Order: that of the config, checkpoints by (step, path).
 * @throws {ConfigError} for a series without a checkpoint, two units of one name, a missing path, given mistakes.
 */
export async function resolveUnits(
  { config, source }: LoadedConfig,
  options: ResolveOptions,
): Promise<ResolvedUnits> {
  const keys = source.keys(["models"]).filter((key) => Object.hasOwn(config.models, key));
  const resolved = await mapConcurrently(keys, async (key) => {
    const entry = config.models[key] as ModelEntry;
    return entry.checkpoint_pattern === null
      ? await resolveModel(key, entry, options)
      : await resolveSeries(key, entry, entry.checkpoint_pattern, options);
  });
  const byEntry = new Map(keys.map((key, index) => [key, resolved[index] as EntryUnits]));
  const errors = [
    ...(options.mistakes ?? []),
    ...resolved.flatMap((entry) => entry.errors),
    ...findDoubles(byEntry),
  ];
  if (errors.length > 0) {
    throw new ConfigError(source.file, inFileOrder(errors.map(source.locate)));
  }
  const all = [...byEntry].flatMap(([key, { units }]) => units.map((unit) => ({ key, ...unit })));
  return {
    manifest: new Map(all.map(({ id, manifest }) => [id, manifest])),
    entryOf: new Map(all.map(({ id, key }) => [id, key])),
    presence: new Map(all.map(({ id, presence }) => [id, presence])),
    notFound: [...byEntry].flatMap(([model, { notFound }]) =>
      notFound.length === 0
        ? []
        : [{ model, path: config.models[model]?.path ?? "", steps: [...notFound] }],
    ),
    warnings: inFileOrder(resolved.flatMap(({ warnings }) => warnings).map(source.locate)),
  };
}

async function resolveModel(
  key: string,
  entry: ModelEntry,
  options: ResolveOptions,
): Promise<EntryUnits> {
  const presence = await lookAt(entry.path, options.baseDirectory);
  const finding: Finding = {
    path: ["models", key, "path"],
    message: `model path "${entry.path}" does not exist`,
    hint: missingPathHint(entry.path),
  };
  const isError =
    presence === "missing" && isLocal(entry.path) && options.allowMissingPaths !== true;
  const warn = presence === "missing" && !isError;
  const manifest = manifestEntry(key, entry, { label: "main", step: null, path: entry.path });
  return {
    units: [{ id: unitId(manifest.model_key, manifest.label), manifest, presence }],
    notFound: [],
    errors: isError ? [finding] : [],
    warnings: warn ? [finding] : [],
  };
}

async function resolveSeries(
  key: string,
  entry: ModelEntry,
  pattern: string,
  { baseDirectory, strict = false }: ResolveOptions,
): Promise<EntryUnits> {
  const refuse = (name: string, message: string, hint: string): EntryUnits => ({
    units: [],
    notFound: [],
    errors: [{ path: ["models", key, name], message, hint }],
    warnings: [],
  });
  let names: string[];
  try {
    names = await directoryNames(resolve(baseDirectory, entry.path));
  } catch (error) {
    const why = whyUnreadable(error);
    const hint = isMissing(error)
      ? missingDirectoryHint(entry.path)
      : "Correct the path or its mode.";
    return refuse("path", `checkpoint directory "${entry.path}" ${why}`, hint);
  }
  const found = findCheckpoints(names, pattern);
  if (found.length === 0) {
    const has = names.length === 0 ? "no directory" : listSome([...names].sort());
    const hint = `It holds ${has}.`;
    return refuse(
      "checkpoint_pattern",
      `no directory in "${entry.path}" matches "${pattern}"`,
      hint,
    );
  }
  const wanted = entry.steps;
  const steps = new Set<Integer>(found.map(({ step }) => step));
  const notFound = [...new Set(wanted ?? [])].filter((step) => !steps.has(step));
  const chosen = wanted === null ? found : found.filter(({ step }) => wanted.includes(step));
  if (chosen.length === 0) {
    const has = `It holds ${listSome(found.map(({ step }) => String(step)))}.`;
    return refuse("steps", `"${entry.path}" holds none of these steps`, has);
  }
  const missing: Finding[] =
    notFound.length === 0
      ? []
      : [
          {
            path: ["models", key, "steps"],
            message: `not found yet in "${entry.path}": steps ${listSome(notFound.map(String))}`,
            hint: "They are evaluated after create-run --update, once they are there.",
          },
        ];
  return {
    units: chosen.map(({ name, step }): Unit => {
      const path = joinAsPathlib(entry.path, name);
      const manifest = manifestEntry(key, entry, { label: name, step, path });
      return { id: unitId(manifest.model_key, name), manifest, presence: "present" };
    }),
    notFound,
    errors: strict ? missing : [],
    warnings: strict ? [] : missing,
  };
}

/** What is wrong with a directory, as a predicate. */
export function whyUnreadable(error: unknown): string {
  if (isMissing(error)) return "does not exist";
  if (errnoName(error) === "ENOTDIR") return "is no directory";
  return `can't be read: ${errnoAdvice(error) ?? messageOf(error)}`;
}

/** `~` and `$SCRATCH` are the shell's: here they are names like any other. */
function isUnexpanded(path: string): boolean {
  return path.startsWith("~") || path.includes("$");
}

function missingPathHint(path: string): string {
  if (isUnexpanded(path)) return 'Write it in full: "~" and "$NAME" are not expanded in paths.';
  return "Correct it; if it will be there when the job runs, plan with create-run --allow-missing-paths.";
}

export function missingDirectoryHint(path: string): string {
  if (isUnexpanded(path)) return missingPathHint(path);
  return isAbsolute(path)
    ? "Correct the path."
    : "Correct the path; it starts in the working directory.";
}

function manifestEntry(
  key: string,
  entry: ModelEntry,
  at: { readonly label: string; readonly step: Integer | null; readonly path: string },
): ManifestEntry {
  return {
    model_key: entry.model_key ?? key,
    label: at.label,
    step: at.step === null ? null : add(at.step, entry.step_offset),
    model_path: at.path,
    display_name: entry.display_name,
    train_batch_size: entry.train_batch_size,
    tokens_trained: tokensTrained(entry, at.step),
  };
}

/** The entry's own number, the list's item for the step, or batch size × step without the offset. */
function tokensTrained(entry: ModelEntry, step: Integer | null): Integer | null {
  const { tokens_trained: given, steps, train_batch_size: batchSize } = entry;
  if (Array.isArray(given)) {
    const at = step === null ? -1 : (steps?.indexOf(step) ?? -1);
    return given[at] ?? null;
  }
  if (given !== null) return given;
  return batchSize === null || step === null ? null : multiply(batchSize, step);
}

function findDoubles(byEntry: ReadonlyMap<string, EntryUnits>): Finding[] {
  const first = new Map<UnitId, { key: string; unit: Unit }>();
  const findings: Finding[] = [];
  for (const [key, { units }] of byEntry) {
    for (const unit of units) {
      const other = first.get(unit.id);
      if (other === undefined) first.set(unit.id, { key, unit });
      else {
        findings.push({
          path: ["models", key],
          at: "key",
          message: `"${key}" makes the unit "${unit.id}" of "${unit.manifest.model_path}", which "${other.key}" makes of "${other.unit.manifest.model_path}"`,
          hint: "Give one of them another model_key.",
        });
      }
    }
  }
  return findings;
}

function listSome(items: readonly string[]): string {
  const shown = items.slice(0, 5).join(", ");
  return items.length > 5 ? `${shown} and ${items.length - 5} more` : shown;
}
