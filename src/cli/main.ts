import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Command, CommanderError, Option } from "commander";
import { ExitCode, messageOf, OperatorError } from "../base/errors.ts";
import { stringifyJson } from "../base/json.ts";
import type { CommandContext, CommandResult, Installation } from "./command.ts";

/** Runs as dist/cli/eval-hive.mjs, or as src/cli/main.ts in development: two folders below the root, both. */
function findInstallation(): Installation {
  const root = join(import.meta.dirname, "../..");
  const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as {
    version: string;
  };
  return {
    root,
    version,
    agentFile: join(root, "dist/agent.mjs"),
    harnessDirectory: join(root, "harness"),
  };
}

/** The first SIGINT asks a command to end well; a second one, or SIGTERM, to end now. */
function listenForSignals(): {
  interrupted: AbortSignal;
  aborted: AbortSignal;
  ended: () => number;
} {
  const interrupted = new AbortController();
  const aborted = new AbortController();
  let signalNumber = 0;
  const listen = (signal: NodeJS.Signals, number: number): void => {
    process.on(signal, () => {
      signalNumber = number;
      if (interrupted.signal.aborted || signal !== "SIGINT") aborted.abort(new Error(signal));
      interrupted.abort(new Error(signal));
    });
  };
  listen("SIGINT", 2);
  listen("SIGTERM", 15);
  return {
    interrupted: interrupted.signal,
    aborted: aborted.signal,
    ended: () => (signalNumber === 0 ? 0 : 128 + signalNumber),
  };
}

const signals = listenForSignals();
const installation = findInstallation();

async function perform(
  options: { json?: boolean },
  command: (context: CommandContext) => Promise<CommandResult>,
): Promise<void> {
  const result = await command({
    env: process.env,
    cwd: process.cwd(),
    stderr: process.stderr,
    interrupted: signals.interrupted,
    aborted: signals.aborted,
    json: options.json === true,
    installation,
  });
  process.stdout.write(options.json === true ? `${stringifyJson(result.data, 2)}\n` : result.text);
  process.exitCode = signals.ended() || result.exitCode;
}

const json = (): Option => new Option("--json", "print the answer as JSON");

function examples(...lines: string[]): string {
  return `\nExamples:\n${lines.map((line) => `  $ eval-hive ${line}`).join("\n")}\n`;
}

const program = new Command("eval-hive")
  .description("Run lm-evaluation-harness at scale on Slurm clusters.")
  .version(installation.version)
  .showHelpAfterError("(add --help for usage)")
  .showSuggestionAfterError()
  .exitOverride()
  .addHelpText(
    "after",
    `${examples("validate-config eh_config.yaml", "run eh_config.yaml", "status runs/eh_config", "collect runs/eh_config")}
Exit codes: 0 done, 1 bug, 2 usage or config, 3 environment, 4 finished but incomplete, 75 try again later, 128+n signal n.`,
  );

program
  .command("validate-config")
  .description("Check a config and print the units that it makes")
  .argument("<config>", "YAML file")
  .option("--strict", "a checkpoint that is not there yet is an error")
  .addOption(json())
  .addHelpText(
    "after",
    examples("validate-config eh_config.yaml", "validate-config eh_config.yaml --json"),
  )
  .action(async (path: string, options: { json?: boolean; strict?: boolean }) => {
    const { validateConfig } = await import("./commands/validate-config.ts");
    await perform(options, async (context) => await validateConfig(path, options, context));
  });

program
  .command("create-run")
  .description("Plan the work and write a run directory")
  .requiredOption("-c, --config <file>", "YAML file")
  .requiredOption("-o, --output <directory>", "run directory")
  .option("--update", "take the changed config into an existing run; safe while agents run")
  .option("--force", "plan an existing run anew; results, logs and failure history stay")
  .option("--dry", "plan and print, write nothing")
  .option("--strict", "a checkpoint that is not there yet is an error")
  .option("--allow-missing-paths", "plan models whose local path does not exist yet")
  .option("--python <program>", "Python that has lm_eval (also EVAL_HIVE_PYTHON)")
  .addOption(json())
  .addHelpText(
    "after",
    examples(
      "create-run --config eh_config.yaml --output runs/my-run",
      "create-run -c eh_config.yaml -o runs/my-run --update",
    ),
  )
  .action(async (options: CreateRunOptions) => {
    const { createRunCommand } = await import("./commands/create-run.ts");
    await perform(options, async (context) => await createRunCommand(options, context));
  });

interface CreateRunOptions {
  config: string;
  output: string;
  update?: boolean;
  force?: boolean;
  dry?: boolean;
  strict?: boolean;
  allowMissingPaths?: boolean;
  python?: string;
  json?: boolean;
}

program
  .command("run")
  .description(
    "Plan and evaluate on this machine, without Slurm; a second call goes on where the first stopped",
  )
  .argument("<config-or-run>", "YAML file, or the run directory of an earlier call")
  .option("-o, --output <directory>", "run directory (default: runs/<config's name>)")
  .option("--update", "take a changed config into the run directory")
  .option("--python <program>", "Python that has lm_eval (also EVAL_HIVE_PYTHON)")
  .option(
    "--take-over",
    "take the run directory from a run on another machine that has been silent for 15 minutes",
  )
  .option("--strict", "a checkpoint that is not there yet is an error")
  .addOption(json())
  .addHelpText(
    "after",
    examples("run eh_config.yaml", "run runs/eh_config", "run eh_config.yaml --update"),
  )
  .action(async (target: string, options: RunOptions) => {
    const { runCommand } = await import("./commands/run.ts");
    await perform(options, async (context) => await runCommand(target, options, context));
  });

interface RunOptions {
  output?: string;
  update?: boolean;
  python?: string;
  takeOver?: boolean;
  strict?: boolean;
  json?: boolean;
}

program
  .command("status")
  .description("What is done, running, failed and open")
  .argument("<run>", "run directory")
  .option("--detailed", "per suite and leaf")
  .addOption(json())
  .addHelpText("after", examples("status runs/my-run", "status runs/my-run --detailed --json"))
  .action(async (run: string, options: { detailed?: boolean; json?: boolean }) => {
    const { statusCommand } = await import("./commands/status.ts");
    await perform(options, async (context) => await statusCommand(run, options, context));
  });

program
  .command("collect")
  .description("Write the scores of a run into one parquet file")
  .argument("<run>", "run directory")
  .option("-o, --output <file>", "parquet file (default: <run>/scores.parquet)")
  .addOption(json())
  .addHelpText(
    "after",
    examples("collect runs/my-run", "collect runs/my-run -o scores.parquet --json"),
  )
  .action(async (run: string, options: { output?: string; json?: boolean }) => {
    const { collect } = await import("./commands/collect.ts");
    await perform(options, async (context) => await collect(run, options, context));
  });

function reportError(error: unknown): number {
  const asJson = process.argv.includes("--json");
  if (!(error instanceof OperatorError)) {
    process.stderr.write(`eval-hive: this is a bug in eval-hive, please report it\n`);
    process.stderr.write(`${error instanceof Error ? error.stack : String(error)}\n`);
    return ExitCode.bug;
  }
  if (asJson) {
    const { code, message, hint } = error;
    const details = "issues" in error ? { issues: error.issues } : {};
    process.stdout.write(
      `${stringifyJson({ schema_version: 1, error: { code, message, hint, ...details } }, 2)}\n`,
    );
  } else {
    process.stderr.write(`eval-hive: ${error.message}\n`);
    if (error.cause !== undefined) process.stderr.write(`  because: ${messageOf(error.cause)}\n`);
    if (error.hint !== undefined) process.stderr.write(`  ${error.hint}\n`);
  }
  return error.exitCode;
}

// A reader that has seen enough (`| head`) is no failure.
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  process.exit(error.code === "EPIPE" ? ExitCode.done : ExitCode.bug);
});

try {
  await program.parseAsync();
} catch (error) {
  if (error instanceof CommanderError) process.exitCode = error.exitCode === 0 ? 0 : ExitCode.usage;
  else process.exitCode = signals.ended() || reportError(error);
}
