import { randomBytes } from "node:crypto";
import { open } from "node:fs/promises";
import { type Clock, systemClock } from "../base/clock.ts";
import { isRunning, processStartTime, sendSignal } from "../base/proc.ts";
import { type ChildGroup, startGroup } from "../base/spawn.ts";
import { expandEnvVars } from "../run/environment.ts";
import type { ServerSpec } from "./node-protocol.ts";
import { type Membership, membersOf } from "./socket-owner.ts";

/** One life of one server. Disposing it ends all that belongs to it. */
export interface ServerProcess extends AsyncDisposable {
  readonly port: number;
  readonly log: string;
  readonly membership: Membership;
  readonly exited: ChildGroup["exited"];
}

/** Variables of the job's proxy and of its place among ranks that would mislead an inference server. */
const proxies = /^(https?_proxy|all_proxy|ftp_proxy)$/i;
const lifeName = "EH_SERVER_LIFE";
/** The second interrupt follows at once, as the original does: some servers ask for it. */
const secondInterruptMs = 100;
const interruptGraceMs = 10_000;
const terminateGraceMs = 5_000;

export async function startServerProcess(
  spec: ServerSpec,
  options: {
    readonly port: number;
    readonly startAttempt: number;
    readonly env: NodeJS.ProcessEnv;
    readonly signal: AbortSignal;
  },
): Promise<ServerProcess> {
  const { port, startAttempt } = options;
  const life = randomBytes(8).toString("hex");
  const base = {
    ...withoutProxies(options.env),
    ...spec.env,
    NO_COLOR: "1",
    EH_PORT: String(port),
    EH_BACKEND_PORT: String(port),
    EH_SERVER_ID: String(spec.server),
    [lifeName]: life,
  };
  const env = { ...base, ...(await expandEnvVars(spec.env_vars, base, options.signal)) };
  const log = `${spec.log_prefix}-attempt${startAttempt}.log`;
  const file = await open(log, "a");
  try {
    const group = await startGroup("bash", ["-c", spec.command], {
      cwd: spec.cwd,
      env,
      stdout: file.fd,
      stderr: file.fd,
    });
    const membership = { group: group.pid, name: lifeName, value: life };
    return {
      port,
      log,
      membership,
      exited: group.exited,
      [Symbol.asyncDispose]: () => endServer(group, membership),
    };
  } finally {
    await file.close();
  }
}

function withoutProxies(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(env).filter(([name]) => !proxies.test(name)));
}

/** Interrupt, terminate, kill: to the group, then to whatever left the group. */
async function endServer(
  group: ChildGroup,
  membership: Membership,
  clock: Clock = systemClock,
): Promise<void> {
  const deadline = clock.monotonic() + interruptGraceMs;
  group.signal("SIGINT");
  const secondAt = clock.monotonic() + secondInterruptMs;
  for (let asked = 1; sendSignal(-group.pid, 0) && clock.monotonic() < deadline; ) {
    if (asked === 1 && clock.monotonic() >= secondAt) {
      group.signal("SIGINT");
      asked = 2;
    }
    await clock.sleep(20);
  }
  await group.stop({ graceMs: terminateGraceMs });
  await killAll(await membersOf(membership), clock);
}

async function killAll(pids: readonly number[], clock: Clock): Promise<void> {
  const victims = await Promise.all(
    pids.map(async (pid) => ({ pid, startTime: (await processStartTime(pid)) ?? "" })),
  );
  for (const { pid } of victims) sendSignal(pid, "SIGKILL");
  const deadline = clock.monotonic() + terminateGraceMs;
  while (clock.monotonic() < deadline) {
    const running = await Promise.all(victims.map(isRunning));
    if (!running.includes(true)) return;
    await clock.sleep(20);
  }
}
