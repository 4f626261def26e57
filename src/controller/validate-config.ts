import { ConfigError, type Issue } from "../config/issue.ts";
import { inFileOrder, type LoadedConfig, loadConfig } from "../config/load.ts";
import { type ResolvedUnits, resolveUnits } from "./checkpoints.ts";
import { checkSuitePath } from "./suite-path.ts";

export interface ValidateOptions {
  /** Absolute: where relative paths start. */
  readonly baseDirectory: string;
  readonly strict?: boolean;
}

/** What a config comes to; without units when it has errors. */
export interface Validation {
  /** As it was given. */
  readonly configFile: string;
  readonly units: ResolvedUnits | undefined;
  readonly errors: readonly Issue[];
  readonly warnings: readonly Issue[];
}

/**
 * Checks a config and the paths that it names; mistakes are part of the answer. A model or a task folder that is not there
 * is a warning.
 * @throws {UsageError} when the file can't be read.
 */
export async function validateConfigFile(
  configFile: string,
  { baseDirectory, strict = false }: ValidateOptions,
): Promise<Validation> {
  let loaded: LoadedConfig | undefined;
  try {
    loaded = await loadConfig(configFile, baseDirectory);
    const units = await resolveUnits(loaded, { baseDirectory, strict, allowMissingPaths: true });
    const suitePath = await checkSuitePath(loaded.config, baseDirectory);
    const warnings = inFileOrder([
      ...loaded.warnings,
      ...units.warnings,
      ...suitePath.map(loaded.source.locate),
    ]);
    return { configFile, units, errors: [], warnings };
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    return { configFile, units: undefined, errors: error.issues, warnings: loaded?.warnings ?? [] };
  }
}
