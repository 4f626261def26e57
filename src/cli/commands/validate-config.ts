import { ExitCode } from "../../base/errors.ts";
import { ConfigError } from "../../config/issue.ts";
import { validateConfigFile } from "../../controller/validate-config.ts";
import type { CommandContext, CommandResult } from "../command.ts";
import { renderValidation, validationData } from "../render/validate-config.ts";

/**
 * `validate-config CFG`: the units that a config makes, and what is wrong with it.
 * @throws {ConfigError} when it has errors; with `--json` they are part of the answer.
 */
export async function validateConfig(
  path: string,
  options: { readonly strict?: boolean },
  context: CommandContext,
): Promise<CommandResult> {
  const validation = await validateConfigFile(path, {
    baseDirectory: context.cwd,
    strict: options.strict === true,
  });
  const valid = validation.errors.length === 0;
  if (!valid && !context.json) throw new ConfigError(path, validation.errors);
  return {
    exitCode: valid ? ExitCode.done : ExitCode.usage,
    data: validationData(validation),
    text: renderValidation(validation),
  };
}
