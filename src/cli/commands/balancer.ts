import { readFile } from "node:fs/promises";
import { resolve } from "node:path";
import { type RunningBalancer, startBalancer } from "../../balancer/balancer.ts";
import { Backend } from "../../balancer/control.ts";
import { isLoopback } from "../../balancer/listen.ts";
import { tallyData } from "../../balancer/status.ts";
import { EnvironmentError, ExitCode, errnoName, messageOf, UsageError } from "../../base/errors.ts";
import { openLog } from "../../base/log.ts";
import type { CommandContext, CommandResult } from "../command.ts";

export interface BalancerCommandOptions {
  readonly listen: string;
  readonly backend: readonly string[];
  readonly tokenFile?: string;
  readonly maxInflight?: string;
  readonly affinity?: "none" | "prompt";
  readonly healthPath?: string;
  readonly timeout: string;
}

/** How long requests wait while no server answers: below the time-outs of most clients. */
const noServerMs = 300_000;
const drainMs = 30_000;

/** `balancer`: one address for many servers, until a signal comes; then what is in progress is finished. */
export async function balancerCommand(
  options: BalancerCommandOptions,
  context: CommandContext,
): Promise<CommandResult> {
  const address = parseAddress(options.listen);
  const backends = parseBackends(options.backend, options.maxInflight);
  const token = await readToken(options.tokenFile, context);
  if (token === undefined && !isLoopback(address.host)) {
    throw new UsageError(
      "balancer.token",
      `Cannot listen on "${address.host}" without a token: others can reach it`,
      { hint: "Write a secret into a file and give it with --token-file, or listen on 127.0.0.1." },
    );
  }
  await using balancer = await start(options, address, token);
  balancer.setServers(backends, { waitMs: noServerMs });
  context.stderr.write(`eval-hive: the balancer listens on ${address.host}:${balancer.port}\n`);
  await aborted(context.interrupted);
  await balancer.drain(AbortSignal.any([context.aborted, AbortSignal.timeout(drainMs)]));
  const totals = tallyData(balancer.accounts.totals);
  return {
    exitCode: ExitCode.done,
    data: { schema_version: 1, ...totals },
    text: `Requests: ${totals.answered} answered, ${totals.refused} refused; ${totals.retries} retries\n`,
  };
}

interface Address {
  readonly host: string;
  readonly port: number;
}

function parseAddress(text: string): Address {
  const [, host, digits] = /^(?:\[?([^[\]]+)\]?:)?(\d{1,5})$/.exec(text) ?? [];
  const port = Number(digits);
  if (digits === undefined || port > 65_535) {
    throw new UsageError("balancer.address", `Cannot listen on "${text}": no HOST:PORT`);
  }
  return { host: host ?? "127.0.0.1", port };
}

function parseBackends(urls: readonly string[], maxInflight: string | undefined): Backend[] {
  const max_in_flight = maxInflight === undefined ? undefined : Number(maxInflight);
  return urls.map((text, n) => {
    const url = URL.parse(text);
    const isPlain = url !== null && url.pathname === "/" && url.search === "" && url.hash === "";
    const parsed = Backend.safeParse({
      id: String(n),
      url: isPlain ? url.origin : text,
      ...(max_in_flight !== undefined && { max_in_flight }),
    });
    if (parsed.success && isPlain) return parsed.data;
    const isLimit = parsed.error?.issues.some(({ path }) => path[0] === "max_in_flight") === true;
    if (isLimit) {
      throw new UsageError("balancer.limit", `Cannot start: --max-inflight is "${maxInflight}"`);
    }
    throw new UsageError("balancer.backend", `Cannot use the server "${text}"`, {
      hint: "Servers are given as http://HOST:PORT: without a path, since clients send theirs.",
    });
  });
}

async function readToken(
  file: string | undefined,
  { cwd }: CommandContext,
): Promise<string | undefined> {
  if (file === undefined) return undefined;
  let token: string;
  try {
    token = (await readFile(resolve(cwd, file), "utf8")).trim();
  } catch (error) {
    throw new UsageError("balancer.token", `Cannot read the token: ${messageOf(error)}`);
  }
  if (/^[!-~]{16,}$/.test(token)) return token;
  throw new UsageError("balancer.token", `Cannot use the token in "${file}"`, {
    hint: "At least 16 letters, digits or signs, without blanks.",
  });
}

async function start(
  { affinity, healthPath, timeout }: BalancerCommandOptions,
  { host, port }: Address,
  token: string | undefined,
): Promise<RunningBalancer> {
  const attemptTimeoutMs = Number(timeout) * 1000;
  if (!(attemptTimeoutMs > 0)) {
    throw new UsageError("balancer.timeout", `Cannot start: --timeout is "${timeout}"`);
  }
  try {
    return await startBalancer({
      host,
      ports: [port],
      token,
      attemptTimeoutMs,
      ...(affinity !== undefined && { affinity }),
      ...(healthPath !== undefined && { healthPath }),
      log: openLog(2),
    });
  } catch (error) {
    if (errnoName(error) === undefined) throw error;
    throw new EnvironmentError(
      "balancer.listen",
      `Cannot listen on ${host}:${port}: ${messageOf(error)}`,
    );
  }
}

async function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  await new Promise((resolve) => signal.addEventListener("abort", resolve, { once: true }));
}
