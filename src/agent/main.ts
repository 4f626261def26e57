/** The one file that jobs start: `lead`, and the processes that it starts from the same file, `node` and `balancer`. */
import { close as closeInspector, url as inspectorUrl } from "node:inspector";
import { hostname } from "node:os";
import { parseArgs } from "node:util";
import { systemClock } from "../base/clock.ts";
import { ExitCode, OperatorError, UsageError } from "../base/errors.ts";
import { openLog } from "../base/log.ts";
import type { OwnerId } from "../run/ids.ts";
import { RunLayout } from "../run/layout.ts";
import type { LeadEnd } from "./lead.ts";
import { newOwnerId } from "./owner-id.ts";

async function main(argv: readonly string[]): Promise<number> {
  const [role, ...rest] = argv;
  if (role === "lead") return await lead(rest);
  if (role === "node") return await node();
  if (role === "balancer") return await balancer();
  throw new UsageError("agent.role", `Cannot start agent: no role "${role ?? ""}"`, {
    hint: "The roles are lead, node and balancer.",
  });
}

async function lead(argv: string[]): Promise<number> {
  const { runLead } = await import("./lead.ts");
  // Whoever started us may be gone, and its pipes and terminal with it.
  for (const stream of [process.stdout, process.stderr]) stream.on("error", () => {});
  const { values } = parseArgs({
    args: argv,
    options: {
      run: { type: "string" },
      owner: { type: "string" },
      job: { type: "string", default: "local" },
      leash: { type: "boolean", default: false },
    },
  });
  if (values.run === undefined) {
    throw new UsageError("agent.run", "Cannot start agent: no --run given");
  }
  const { job } = values;
  const running = runLead({
    context: {
      layout: new RunLayout(values.run),
      owner: (values.owner as OwnerId | undefined) ?? newOwnerId(job, process.pid),
      job,
      isLocal: job === "local",
      node: hostname(),
      agentFile: process.argv[1] ?? "",
      nodeFile: process.execPath,
      env: process.env,
      log: openLog(2),
      clock: systemClock,
    },
    leash: values.leash ? process.stdin : undefined,
    signals: process,
  });
  // Node opens its inspector on a USR1 that comes before anybody listens: it meant us.
  if (
    inspectorUrl() !== undefined &&
    !process.execArgv.some((arg) => arg.startsWith("--inspect"))
  ) {
    closeInspector();
    process.kill(process.pid, "SIGUSR1");
  }
  const end = await running;
  tell(end);
  return end.exitCode;
}

/** For whoever started the agent: one line of JSON. */
function tell({ reason, exitCode, error }: LeadEnd): void {
  const operator = error instanceof OperatorError ? { code: error.code, hint: error.hint } : {};
  const details = error === undefined ? {} : { message: error.message, ...operator };
  const line = { type: "ended", reason, exit_code: exitCode, ...details };
  process.stdout.write(`${JSON.stringify(line)}\n`);
  if (error !== undefined) process.stderr.write(`${error.stack ?? error.message}\n`);
}

/** Ends on the end of stdin; a signal means the same. */
async function node(): Promise<number> {
  const { runNodeAgent } = await import("./node.ts");
  const stop = new AbortController();
  for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"] as const) {
    process.on(signal, () => stop.abort());
  }
  const { stdin, stdout, env } = process;
  await runNodeAgent({ stdin, stdout, env, signal: stop.signal });
  return ExitCode.done;
}

async function balancer(): Promise<number> {
  const { runBalancer } = await import("../balancer/main.ts");
  // Its end is the end of its stdin: whoever signals the whole group still needs it for a moment.
  process.on("SIGINT", () => {});
  await runBalancer(process.stdin, process.stdout);
  return Number(process.exitCode ?? ExitCode.done);
}

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  const isOperator = error instanceof OperatorError;
  process.stderr.write(
    `eval-hive agent: ${isOperator ? error.message : ((error as Error).stack ?? error)}\n`,
  );
  process.exitCode = isOperator ? error.exitCode : ExitCode.bug;
}
