import { randomBytes } from "node:crypto";
import { access, open } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { type Clock, systemClock } from "../base/clock.ts";
import { isRunning, processStartTime, sendSignal } from "../base/proc.ts";
import { type ChildGroup, startGroup } from "../base/spawn.ts";
import { expandEnvVars } from "../run/environment.ts";
import type { ServerSpec } from "./node-protocol.ts";
import { type NodeResources, shareOfNode } from "./node-share.ts";
import { type Membership, membersOf } from "./socket-owner.ts";

/** One life of one server. Disposing it ends all that belongs to it. */
export interface ServerProcess extends AsyncDisposable {
  readonly port: number;
  readonly log: string;
  readonly membership: Membership;
  /** OPENAI_API_KEY of its environment. */
  readonly apiKey: string;
  /** In which its command runs. */
  readonly env: NodeJS.ProcessEnv;
  /** Variables of it that its share of the node has set. */
  readonly share: readonly string[];
  readonly exited: ChildGroup["exited"];
}

/** Variables of the job's proxy and of its place among ranks that would mislead an inference server. */
const proxies = /^(https?_proxy|all_proxy|ftp_proxy)$/i;
const lifeName = "EH_SERVER_LIFE";
/** How a server is asked to end, until it has. The second interrupt follows at once, as in the original: some ask for it. */
const farewell: readonly { readonly afterMs: number; readonly signal: NodeJS.Signals }[] = [
  { afterMs: 0, signal: "SIGINT" },
  { afterMs: 100, signal: "SIGINT" },
  { afterMs: 10_000, signal: "SIGTERM" },
  { afterMs: 15_000, signal: "SIGKILL" },
];
/** How long what was killed may take to end. */
const killedMs = 5_000;

export async function startServerProcess(
  spec: ServerSpec,
  options: {
    readonly port: number;
    readonly startAttempt: number;
    readonly env: NodeJS.ProcessEnv;
    readonly signal: AbortSignal;
    readonly clock: Clock;
  },
): Promise<ServerProcess> {
  const { port, startAttempt, clock } = options;
  const life = randomBytes(8).toString("hex");
  const inherited = withoutProxies(options.env);
  const share = shareOfNode(inherited, spec.share, await nodeResources());
  const base = {
    ...inherited,
    ...share,
    ...spec.env,
    NO_COLOR: "1",
    EH_PORT: String(port),
    EH_BACKEND_PORT: String(port),
    EH_SERVER_ID: String(spec.server),
    [lifeName]: life,
  };
  const { cwd } = spec;
  const expanded = await expandEnvVars(spec.env_vars, base, { cwd, signal: options.signal });
  const log = `${spec.log_prefix}-attempt${startAttempt}.log`;
  const file = await open(log, "a");
  try {
    const env: NodeJS.ProcessEnv = { ...base, ...expanded };
    const group = await startGroup("bash", ["-c", spec.command], {
      cwd,
      env,
      stdout: file.fd,
      stderr: file.fd,
    });
    const membership = { group: group.pid, name: lifeName, value: life };
    return {
      port,
      log,
      membership,
      apiKey: env["OPENAI_API_KEY"] ?? "",
      env,
      share: Object.keys(share),
      exited: group.exited,
      [Symbol.asyncDispose]: () => endServer(group, membership, clock),
    };
  } finally {
    await file.close();
  }
}

async function nodeResources(): Promise<NodeResources> {
  const isRocm = await access("/dev/kfd").then(
    () => true,
    () => false,
  );
  return { cpus: availableParallelism(), isRocm };
}

function withoutProxies(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(env).filter(([name]) => !proxies.test(name)));
}

/** Interrupt, terminate, kill: to the group, then kill whatever left the group. */
async function endServer(group: ChildGroup, membership: Membership, clock: Clock): Promise<void> {
  const startedAt = clock.monotonic();
  const signals = farewell.values();
  let next = signals.next();
  while (!next.done && (await group.isRunning())) {
    const { afterMs, signal } = next.value;
    if (clock.monotonic() - startedAt >= afterMs) {
      group.signal(signal);
      next = signals.next();
    } else {
      await clock.sleep(20);
    }
  }
  await group.stop({ signal: "SIGKILL", graceMs: 0 });
  await killAll(await membersOf(membership));
}

async function killAll(pids: readonly number[]): Promise<void> {
  const victims = await Promise.all(
    pids.map(async (pid) => ({ pid, startTime: (await processStartTime(pid)) ?? "" })),
  );
  for (const { pid } of victims) sendSignal(pid, "SIGKILL");
  // Real processes end in real time.
  const deadline = systemClock.monotonic() + killedMs;
  while (systemClock.monotonic() < deadline) {
    const running = await Promise.all(victims.map(isRunning));
    if (!running.includes(true)) return;
    await systemClock.sleep(20);
  }
}
