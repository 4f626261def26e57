import { existsSync } from "node:fs";
import { isAbsolute, join, resolve } from "node:path";
import { UsageError } from "../base/errors.ts";

/** Everything that may say which Python has lm_eval. */
export interface PythonChoice {
  /** `--python` or EVAL_HIVE_PYTHON. */
  readonly explicit: string | undefined;
  /** The config's `harness_command`, as words. */
  readonly harnessCommand: readonly string[] | null;
  readonly pixiManifest: string | null;
  readonly pixiEnv: string | null;
  readonly activationCommand: string | null;
  readonly configDirectory: string;
  readonly cwd: string;
  /** Where eval-hive itself is installed. */
  readonly checkout: string;
}

/**
 * The command prefix that runs Python with lm_eval, for planning and for jobs alike: arguments are appended, no shell is
 * between. The first that is given counts: an explicit one, the config's harness_command, its environment, the checkout's
 * `.venv`, `python3`. Nothing is resolved: a symbolic link or a wrapper may be what selects the environment.
 * @throws {UsageError} when `pixi_manifest` is nowhere.
 */
export function decidePythonCommand(
  choice: PythonChoice,
  exists: (path: string) => boolean = existsSync,
): [string, ...string[]] {
  if (choice.explicit) return [choice.explicit];
  const [program, ...args] = choice.harnessCommand ?? [];
  if (program !== undefined) return [program, ...args];
  if (choice.pixiManifest) {
    const manifest = findPixiManifest(choice.pixiManifest, choice, exists);
    const environment = choice.pixiEnv ? ["--environment", choice.pixiEnv] : [];
    return ["pixi", "run", "--manifest-path", manifest, ...environment, "python3"];
  }
  if (choice.activationCommand) {
    // A line of its own: the command may end in a comment or hold several lines.
    const script = `{ ${choice.activationCommand}\n} && exec python3 "$@"`;
    return ["bash", "-c", script, "eval-hive"];
  }
  const own = join(choice.checkout, ".venv/bin/python");
  return [exists(own) ? own : "python3"];
}

/**
 * The absolute path of a manifest: a relative one is looked for beside the config, in the working directory, then in the
 * checkout, which ships one. @throws {UsageError} naming all the places.
 */
export function findPixiManifest(
  manifest: string,
  { configDirectory, cwd, checkout }: Pick<PythonChoice, "configDirectory" | "cwd" | "checkout">,
  exists: (path: string) => boolean = existsSync,
): string {
  const places = isAbsolute(manifest)
    ? [manifest]
    : [configDirectory, cwd, checkout].map((place) => resolve(place, manifest));
  const found = places.find(exists);
  if (found !== undefined) return found;
  const looked = [...new Set(places)].map((place) => `"${place}"`).join(", ");
  throw new UsageError(
    "config.pixi-manifest",
    `Cannot find pixi_manifest "${manifest}": looked at ${looked}`,
    { hint: "Correct pixi_manifest, or name a Python that has lm_eval with --python." },
  );
}
