import { randomBytes } from "node:crypto";
import { rm } from "node:fs/promises";
import { type Clock, systemClock } from "../base/clock.ts";
import { ExitCode, messageOf, OperatorError } from "../base/errors.ts";
import type { RunState } from "../events/run-state.ts";
import { identifyThisProcess } from "../queue/owner-record.ts";
import { holdRun } from "../queue/run-owner.ts";
import { voidUnitFailures } from "../queue/stopped-units.ts";
import type { RunLayout } from "../run/layout.ts";
import type { Plan } from "../run/plan.ts";
import { readPlan } from "../run/plan-file.ts";
import { readRun } from "../run/read-run.ts";
import { type AgentEnd, agentLog, type FollowOptions, followAgent } from "./follow-agent.ts";
import { assertCanHoldResults, findDirectory } from "./output-path.ts";
import { type AgentsEnd, addFailedUnits, writeCompletedUnits } from "./progress-files.ts";
import { recordFoundLeaves } from "./record-found.ts";
import { reopenLeaves } from "./reopen.ts";
import { openRunView, type RunView } from "./status.ts";
import { assertStored } from "./store.ts";

export interface RunLocalOptions {
  readonly layout: RunLayout;
  readonly env: NodeJS.ProcessEnv;
  /** Node: it runs the agent too. */
  readonly nodeFile: string;
  readonly takeOver: boolean;
  /** Take nothing new, finish the leaves at hand. */
  readonly interrupted: AbortSignal;
  /** End now. */
  readonly aborted: AbortSignal;
  /** Gets the state of the run about once a second, and at the end. */
  readonly onLook: (state: RunState) => void;
  readonly say: (message: string) => void;
  readonly clock?: Clock;
}

/** Agents that die one after another without settling a leaf. */
const maxDeaths = 3;

/**
 * Evaluates what is open in a run directory on this machine, with one agent; an agent that dies is replaced. Only one such
 * call lives per directory.
 * @returns the state at the end. @throws {RunHeldError} @throws {AgentFailedError} when agents can't work here.
 */
export async function runLocal(options: RunLocalOptions): Promise<RunState> {
  const { layout, onLook, clock = systemClock } = options;
  const owner = `run-p${process.pid}-${randomBytes(4).toString("hex")}`;
  const identity = await identifyThisProcess(owner);
  await using hold = await holdRun(layout, { identity, takeOver: options.takeOver });
  await findDirectory((await readPlan(layout)).output_path);
  await reopenLeaves(layout, { signal: options.interrupted, say: options.say });
  await voidUnitFailures(layout, "run", new Date(clock.now()).toISOString());
  const view = openRunView(layout);
  const aborting = AbortSignal.any([options.aborted, hold.fenced]);
  const agent = {
    layout,
    nodeFile: options.nodeFile,
    env: { ...options.env, EH_OWNER: owner },
    draining: options.interrupted,
    aborting,
  };
  const look = async (): Promise<RunState> => {
    const { state } = await view.look();
    onLook(state);
    return state;
  };
  let hasBegun = false;
  let isFailure = true;
  try {
    const state = await evaluateOpen(options, { ...agent, fenced: hold.fenced }, look, () => {
      hasBegun = true;
    });
    isFailure = false;
    return state;
  } finally {
    // Whoever has taken over speaks for the run from now on.
    if (!hold.fenced.aborted) {
      const end = {
        isFailure,
        interrupted: options.interrupted.aborted,
        at: new Date(clock.now()),
      };
      await recordProgress(layout, view, hasBegun ? end : undefined).catch((error: unknown) => {
        options.say(`warning: ${messageOf(error)}`);
      });
    }
  }
}

/** For people and old tools; without an end only what is completed: nobody has worked. */
async function recordProgress(
  layout: RunLayout,
  view: RunView,
  end: Omit<AgentsEnd, "job"> | undefined,
): Promise<void> {
  const { state } = await view.look();
  const completed = state.units.filter((unit) => unit.state === "completed");
  await writeCompletedUnits(
    layout,
    completed.map(({ unit }) => unit),
  );
  if (end !== undefined) await addFailedUnits(layout, state, { ...end, job: "local" });
}

interface AgentOptions extends Omit<FollowOptions, "plan"> {
  /** Another call holds the directory now. */
  readonly fenced: AbortSignal;
}

const removal = { recursive: true, force: true } as const;

/** Starts agents until nothing is open. @param onBegin an agent is about to be started */
async function evaluateOpen(
  options: RunLocalOptions,
  agent: AgentOptions,
  look: () => Promise<RunState>,
  onBegin: () => void,
): Promise<RunState> {
  const { layout, clock = systemClock } = options;
  const { aborting, fenced } = agent;
  for (let deaths = 0; ; ) {
    const { plan, manifest } = await readRun(layout);
    // Whoever died here before may have left leaf files without a word about them.
    await recordFoundLeaves(layout, plan, manifest);
    const before = await look();
    // And the requests that were kept of its last leaf, which are of no use any more.
    if (before.leaves.open === 0) await rm(layout.journals, removal).catch(() => {});
    if (before.leaves.open === 0 || options.interrupted.aborted || aborting.aborted) return before;
    await assertStored(plan.harness.store);
    await assertCanHoldResults(plan.output_path);
    onBegin();
    const end = await lookWhile(look, clock, followAgent({ ...agent, plan }));
    fenced.throwIfAborted();
    const after = await look();
    if (end.said !== undefined) {
      refuseFailure(end.said, layout, plan);
      const stopping = options.interrupted.aborted || aborting.aborted;
      if (stopping || (await readPlan(layout)).updated_at === plan.updated_at) return after;
      // It was replaced when the agent had nothing left to do.
      deaths = 0;
      continue;
    }
    if (aborting.aborted) return after;
    deaths = after.leaves.open < before.leaves.open ? 1 : deaths + 1;
    if (deaths >= maxDeaths)
      throw new AgentFailedError(layout, plan, `died ${deaths} times (${end.how})`);
    options.say(`the agent ended without a word (${end.how}); starting another`);
  }
}

/** Thrown when an agent could not work, or agents die one after another. */
class AgentFailedError extends OperatorError {
  readonly code: string;
  readonly exitCode: number;

  constructor(layout: RunLayout, plan: Plan, what: string, said?: AgentEnd["said"]) {
    super(`Cannot go on in "${layout.directory}": the agent ${what}`, {
      hint:
        said?.hint ?? `Look at the end of "${agentLog(layout, plan)}"; finished leaves are safe.`,
    });
    this.code = said?.code ?? "run.agent-failed";
    this.exitCode = said?.exit_code ?? ExitCode.environment;
  }
}

/** An agent that failed says why: disk full, another lm_eval, a bug. */
function refuseFailure(said: NonNullable<AgentEnd["said"]>, layout: RunLayout, plan: Plan): void {
  if (said.reason !== "failed") return;
  throw new AgentFailedError(layout, plan, `failed: ${said.message ?? "without a reason"}`, said);
}

/** Looks again and again until the promise has settled; never more than a tenth of the time is spent on looking. */
async function lookWhile<T>(
  look: () => Promise<unknown>,
  clock: Clock,
  working: Promise<T>,
): Promise<T> {
  const over = new AbortController();
  const looking = (async () => {
    while (!over.signal.aborted) {
      const startedAt = clock.monotonic();
      await look();
      const pauseMs = Math.max(1_000, 10 * (clock.monotonic() - startedAt));
      await clock.sleep(pauseMs, over.signal).catch(() => {});
    }
  })();
  looking.catch(() => {});
  try {
    return await working;
  } finally {
    over.abort();
    await looking;
  }
}
