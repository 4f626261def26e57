import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { systemClock } from "../base/clock.ts";
import { EnvironmentError, ExitCode } from "../base/errors.ts";
import { describeExit, type Exit, startGroup } from "../base/spawn.ts";
import type { RunState } from "../events/run-state.ts";
import { identifyThisProcess } from "../queue/owner-record.ts";
import { holdRun } from "../queue/run-owner.ts";
import { voidUnitFailures } from "../queue/stopped-units.ts";
import type { RunLayout } from "../run/layout.ts";
import { readManifest } from "../run/manifest.ts";
import type { Plan } from "../run/plan.ts";
import { readPlan, writePlan } from "../run/plan-file.ts";
import { findOpenWork } from "./open-work.ts";
import { publishOpenWork } from "./publish.ts";
import { openRunView } from "./status.ts";

export interface RunLocalOptions {
  readonly layout: RunLayout;
  readonly env: NodeJS.ProcessEnv;
  /** Node: it runs the agent too. */
  readonly nodeFile: string;
  readonly takeOver: boolean;
  /** Take nothing new, end what runs. */
  readonly interrupted: AbortSignal;
  /** End now. */
  readonly aborted: AbortSignal;
  /** Called about once a second with the state of the run. */
  readonly onLook: (state: RunState) => void;
  readonly say: (message: string) => void;
}

/** The last word of an agent, or how it died without one. */
interface AgentEnd {
  readonly exit: Exit;
  readonly said: { readonly exit_code: number; readonly message?: string } | undefined;
}

/** Agents that die one after another without settling a leaf. */
const maxDeaths = 3;

/**
 * Evaluates what is open in a run directory on this machine, with one agent; an agent that dies is replaced. Only one such
 * call lives per directory.
 * @returns the state at the end. @throws {RunHeldError} @throws {EnvironmentError} when agents die one after another.
 */
export async function runLocal(options: RunLocalOptions): Promise<RunState> {
  const { layout } = options;
  const owner = `run-p${process.pid}-${randomBytes(4).toString("hex")}`;
  const identity = await identifyThisProcess(owner);
  await using hold = await holdRun(layout, { identity, takeOver: options.takeOver });
  const plan = await reopen(layout);
  await voidUnitFailures(layout, "run", new Date().toISOString());
  const view = openRunView(layout);
  const env = { ...options.env, EH_OWNER: owner };
  const aborted = AbortSignal.any([options.aborted, hold.fenced]);
  let state = (await view.look()).state;
  for (let deaths = 0; state.leaves.open > 0; ) {
    const settledBefore = state.leaves.open;
    const end = await followAgent({ ...options, aborted }, plan, env, async () => {
      options.onLook((await view.look()).state);
    });
    hold.fenced.throwIfAborted();
    state = (await view.look()).state;
    options.onLook(state);
    if (options.interrupted.aborted || end.said !== undefined) {
      failWith(end);
      break;
    }
    deaths = state.leaves.open < settledBefore ? 1 : deaths + 1;
    options.say(`the agent ended with ${describeExit(end.exit)}; starting another`);
    if (deaths >= maxDeaths) throw new AgentLostError(layout, describeExit(end.exit));
  }
  return state;
}

/** Thrown when agents die again and again. */
class AgentLostError extends EnvironmentError {
  constructor(layout: RunLayout, how: string) {
    super(
      "run.agent-lost",
      `Cannot go on in "${layout.directory}": ${maxDeaths} agents died, ${how}`,
      {
        hint: "Look at the end of the logs in its logs/ directory; is the machine out of memory?",
      },
    );
  }
}

/** An agent that could not work at all tells why: disk full, wrong lm_eval. */
function failWith({ said }: AgentEnd): void {
  if (said?.exit_code === ExitCode.environment) {
    throw new EnvironmentError("run.agent-failed", said.message ?? "The agent could not work");
  }
}

/** Publishes leaves whose result is not there and that no batch will bring: somebody removed it. */
async function reopen(layout: RunLayout): Promise<Plan> {
  const plan = await readPlan(layout);
  const entries = await readManifest(layout);
  const work = await findOpenWork({ layout, plan, entries, previous: plan });
  const { units, nLeaves } = await publishOpenWork(layout, plan, work);
  if (nLeaves === 0) return plan;
  const reopened = { ...plan, units: [...units], updated_at: new Date().toISOString() };
  await writePlan(layout, reopened);
  return reopened;
}

/** Starts an agent, passes on what this process is told, and waits for its end. */
async function followAgent(
  options: RunLocalOptions,
  plan: Plan,
  env: NodeJS.ProcessEnv,
  look: () => Promise<void>,
): Promise<AgentEnd> {
  const agentFile = join(plan.harness.store, "agent.mjs");
  await using agent = await startGroup(
    options.nodeFile,
    [agentFile, "lead", "--run", options.layout.directory, "--leash"],
    { env, stdin: "pipe", stdout: "pipe", stderr: 2, cwd: plan.working_directory },
  );
  let said: AgentEnd["said"];
  const lines = createInterface({ input: agent.stdout as NonNullable<typeof agent.stdout> });
  lines.on("line", (line) => {
    const message = JSON.parse(line) as { type: string; exit_code: number; message?: string };
    if (message.type === "ended") said = message;
  });
  const linesEnded = new Promise<void>((resolve) => lines.once("close", resolve));
  const drain = (): void => void agent.stdin?.write("drain\n");
  const abort = (): void => void agent.stdin?.write("abort\n");
  const { interrupted, aborted } = options;
  for (const [signal, tell] of [
    [interrupted, drain],
    [aborted, abort],
  ] as const) {
    if (signal.aborted) tell();
    else signal.addEventListener("abort", tell, { once: true });
  }
  const ended = new AbortController();
  const looking = (async () => {
    while (!ended.signal.aborted) {
      await look();
      await systemClock.sleep(1_000, ended.signal).catch(() => {});
    }
  })();
  const exit = await agent.exited;
  ended.abort();
  await Promise.all([linesEnded, looking]);
  interrupted.removeEventListener("abort", drain);
  aborted.removeEventListener("abort", abort);
  return { exit, said };
}
