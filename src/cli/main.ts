import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Command, CommanderError, Option } from "commander";
import { EnvironmentError, ExitCode } from "../base/errors.ts";
import type { CommandContext, CommandResult, Installation } from "./command.ts";
import type { BalancerCommandOptions } from "./commands/balancer.ts";
import { describeFailure, failureData, renderFailure, renderJson } from "./failure.ts";
import { listenToSignals, type StopSignals } from "./signals.ts";

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

/** Node with `await using`, iterator helpers and the rest that dist/ takes for granted. */
const oldestNode = 24;

function refuseOldNode(): void {
  const [major] = process.versions.node.split(".");
  if (Number(major) >= oldestNode) return;
  throw new EnvironmentError(
    "install.node",
    `Cannot run on Node ${process.versions.node}: eval-hive needs ${oldestNode}`,
    { hint: "npm ci installs one that bin/eval-hive finds; EVAL_HIVE_NODE, if set, goes first." },
  );
}

const installation = findInstallation();
let signals: StopSignals | undefined;

/** Commands that write need to hear of signals, to end well; the others end at once, by the signal. */
function listen(options: { readonly gentle?: boolean } = {}): StopSignals {
  signals ??= listenToSignals(process, {
    ...options,
    ignoreHangup: process.env["EVAL_HIVE_NOHUP"] === "1",
  });
  return signals;
}

async function perform(
  options: { json?: boolean },
  command: (context: CommandContext) => Promise<CommandResult>,
): Promise<void> {
  const never = new AbortController().signal;
  const result = await command({
    env: process.env,
    cwd: process.cwd(),
    stderr: process.stderr,
    interrupted: signals?.interrupted ?? never,
    aborted: signals?.aborted ?? never,
    json: options.json === true,
    installation,
  });
  process.stdout.write(options.json === true ? renderJson(result.data) : result.text);
  process.exitCode = signals?.exitCode() || result.exitCode;
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
  .addOption(
    new Option(
      "--update",
      "take the changed config into an existing run; safe while agents run",
    ).conflicts("force"),
  )
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
    listen();
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
    listen();
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
  .command("events")
  .description("What has happened in a run: of everything, or of one unit or leaf")
  .argument("<run>", "run directory")
  .option("--unit <unit>", "events of this unit (task key)")
  .option("--leaf <leaf>", "events of this leaf, and of the batches and agents that brought it")
  .option("--type <type...>", 'these types, or all that begin alike: "leaf" for "leaf.done" …')
  .addOption(json())
  .addHelpText(
    "after",
    examples(
      "events runs/my-run --leaf arc_easy",
      "events runs/my-run --unit my-model--main --type server unit",
    ),
  )
  .action(async (run: string, options: EventsOptions) => {
    const { eventsCommand } = await import("./commands/events.ts");
    await perform(options, async (context) => await eventsCommand(run, options, context));
  });

interface EventsOptions {
  unit?: string;
  leaf?: string;
  type?: string[];
  json?: boolean;
}

program
  .command("requeue")
  .description("Give leaves that failed too often another chance, once the cause is mended")
  .argument("<run>", "run directory")
  .option("--unit <unit...>", "of these units (task keys) only")
  .option("--leaf <leaf...>", "these leaves or tasks only")
  .addOption(json())
  .addHelpText(
    "after",
    examples("requeue runs/my-run", "requeue runs/my-run --unit my-model--main --leaf arc_easy"),
  )
  .action(async (run: string, options: { unit?: string[]; leaf?: string[]; json?: boolean }) => {
    const { requeueCommand } = await import("./commands/requeue.ts");
    listen();
    await perform(options, async (context) => await requeueCommand(run, options, context));
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

program
  .command("balancer")
  .description("One address for many servers, until a signal comes; needs no run")
  .requiredOption("--listen <host:port>", "beyond loopback only with --token-file")
  .requiredOption("--backend <url...>", "servers: http://HOST:PORT")
  .option("--token-file <file>", "requests need `Authorization: Bearer` and what is in this file")
  .option(
    "--max-inflight <n>",
    "requests per server at the same time; more wait (default: no limit)",
  )
  .addOption(
    new Option(
      "--affinity <kind>",
      "prompt: requests with the same beginning go to the same server, as long as it has room",
    ).choices(["none", "prompt"]),
  )
  .option("--health-path <path>", "what health checks ask for (default: /health)")
  .option("--timeout <seconds>", "of one attempt of a request", "3600")
  .addOption(json())
  .addHelpText(
    "after",
    `${examples(
      "balancer --listen 127.0.0.1:8000 --backend http://n1:9000 http://n2:9000",
      "balancer --listen 0.0.0.0:8000 --token-file secret --backend http://n1:9000 --max-inflight 256",
    )}
Its own pages: /lb/health, /lb/status (JSON), /metrics (Prometheus).
A signal ends it when what is in progress is finished, within half a minute; a second one ends it at once.
`,
  )
  .action(async (options: BalancerCommandOptions & { json?: boolean }) => {
    const { balancerCommand } = await import("./commands/balancer.ts");
    listen({ gentle: true });
    await perform(options, async (context) => await balancerCommand(options, context));
  });

/** @returns the exit code. */
function report(error: unknown): number {
  const asJson = process.argv.includes("--json");
  const failure = describeFailure(error);
  if (failure === undefined) return ExitCode.done;
  const signalled = signals?.exitCode() ?? 0;
  // A command that was told to stop may have nothing else to say.
  if (signalled !== 0 && isAbort(error)) {
    const interrupted = { code: "interrupted", message: "Interrupted", exitCode: signalled };
    if (asJson) process.stdout.write(renderJson(failureData(interrupted)));
    return signalled;
  }
  if (asJson) process.stdout.write(renderJson(failureData(failure)));
  // Commander has said it already.
  else if (!(error instanceof CommanderError)) process.stderr.write(renderFailure(failure));
  return signalled || failure.exitCode;
}

function isAbort(error: unknown): boolean {
  // Waiting for a timer rejects with an error of its own, which names the reason as its cause.
  const reasons: unknown[] = [signals?.interrupted.reason, signals?.aborted.reason];
  return (
    error instanceof Error && (reasons.includes(error) || reasons.includes(error.cause ?? error))
  );
}

// A reader that has seen enough (`| head`) is no failure; nor is it ours when nobody reads what goes on.
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code !== "EPIPE") process.exitCode = ExitCode.environment;
  process.exit();
});
process.stderr.on("error", () => {});

try {
  refuseOldNode();
  await program.parseAsync();
} catch (error) {
  process.exitCode = report(error);
}
