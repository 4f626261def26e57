import { existsSync } from "node:fs";
import { isAbsolute, join, resolve } from "node:path";
import { UsageError } from "../base/errors.ts";

/** Everything that may say which Python has lm_eval; paths as the user wrote them. */
export interface PythonChoice {
  /** `--python` or EVAL_HIVE_PYTHON. */
  readonly explicit?: string | undefined;
  /** The config's `harness_command`: text is split at blanks, quotes kept together. */
  readonly harness_command?: string | readonly string[] | null | undefined;
  readonly pixi_manifest?: string | null | undefined;
  readonly pixi_env?: string | null | undefined;
  readonly env_activation_command?: string | null | undefined;
  /** Directories. */
  readonly beside_config: string;
  readonly working_directory: string;
  readonly checkout: string;
}

export interface PythonCommand {
  /** Runs Python when its arguments are appended; no shell. */
  readonly argv: readonly [string, ...string[]];
  /** Which word decided, for messages. */
  readonly chosen_by:
    | "--python"
    | "harness_command"
    | "pixi"
    | "env_activation_command"
    | ".venv"
    | "PATH";
  /** Absolute; set when pixi decides. */
  readonly pixi_manifest: string | undefined;
}

/**
 * The command prefix that runs Python with lm_eval, for planning and for jobs alike. The first word counts: an explicit
 * one, the config's harness_command, its environment, the checkout's `.venv`, `python3`. A harness_command stays as it
 * is: a symbolic link or a wrapper may be what selects the environment.
 * @throws {UsageError} when `pixi_manifest` is nowhere.
 */
export function decidePythonCommand(
  choice: PythonChoice,
  exists: (path: string) => boolean = existsSync,
): PythonCommand {
  const pixi_manifest = undefined;
  if (choice.explicit !== undefined && choice.explicit !== "") {
    return { argv: [choice.explicit], chosen_by: "--python", pixi_manifest };
  }
  const [program, ...args] = words(choice.harness_command ?? "");
  if (program !== undefined) {
    return { argv: [program, ...args], chosen_by: "harness_command", pixi_manifest };
  }
  if (choice.pixi_manifest) {
    const manifest = findPixiManifest({ ...choice, pixi_manifest: choice.pixi_manifest }, exists);
    const environment = choice.pixi_env ? ["--environment", choice.pixi_env] : [];
    return {
      argv: ["pixi", "run", "--manifest-path", manifest, ...environment, "python3"],
      chosen_by: "pixi",
      pixi_manifest: manifest,
    };
  }
  if (choice.env_activation_command) {
    const script = `${choice.env_activation_command} && exec python3 "$@"`;
    return {
      argv: ["bash", "-c", script, "eval-hive"],
      chosen_by: "env_activation_command",
      pixi_manifest,
    };
  }
  const own = join(choice.checkout, ".venv/bin/python");
  if (exists(own)) return { argv: [own], chosen_by: ".venv", pixi_manifest };
  return { argv: ["python3"], chosen_by: "PATH", pixi_manifest };
}

/** Beside the config, in the working directory, then in the checkout, which ships one. @throws {UsageError} */
export function findPixiManifest(
  choice: Pick<PythonChoice, "beside_config" | "working_directory" | "checkout"> & {
    readonly pixi_manifest: string;
  },
  exists: (path: string) => boolean = existsSync,
): string {
  const { pixi_manifest, beside_config, working_directory, checkout } = choice;
  const places = isAbsolute(pixi_manifest)
    ? [pixi_manifest]
    : [beside_config, working_directory, checkout].map((place) => resolve(place, pixi_manifest));
  const found = places.find(exists);
  if (found !== undefined) return found;
  const looked = [...new Set(places)].map((place) => `"${place}"`).join(", ");
  throw new UsageError(
    "config.pixi-manifest",
    `Cannot find pixi_manifest "${pixi_manifest}": looked at ${looked}`,
    {
      hint: "Correct pixi_manifest, or name a Python that has lm_eval with --python or harness_command.",
    },
  );
}

/** Words of a command line: blanks separate, quotes and backslashes protect, nothing is expanded. */
function words(command: string | readonly string[]): readonly string[] {
  if (typeof command !== "string") return command;
  const found = command.match(/(?:"(?:\\.|[^"\\])*"|'[^']*'|\\.|[^\s"'\\])+/gu) ?? [];
  return found.map((word) =>
    word.replace(/"((?:\\.|[^"\\])*)"|'([^']*)'|\\(.)/gu, (_, double, single, escaped) =>
      double !== undefined ? double.replace(/\\(["\\$`])/gu, "$1") : (single ?? escaped),
    ),
  );
}
