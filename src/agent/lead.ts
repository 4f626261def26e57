import { createInterface } from "node:readline";
import type { Readable } from "node:stream";
import {
  ExitCode,
  explainSystemError,
  firstThrown,
  messageOf,
  OperatorError,
} from "../base/errors.ts";
import { openJournal } from "../events/journal.ts";
import { startHeartbeat } from "../queue/heartbeat.ts";
import { identifyThisProcess } from "../queue/owner-record.ts";
import { readPlan } from "../run/plan-file.ts";
import { type JobContext, openProcesses } from "./job.ts";
import { Reaper } from "./reaper.ts";
import { type EndReason, listenToSignals, Shutdown, type SignalSource } from "./shutdown.ts";
import { workThroughPlan } from "./work.ts";

export interface LeadOptions {
  readonly context: JobContext;
  /** Its end means: stop everything; `drain` and `abort` on a line of their own ask for it. Undefined: no leash. */
  readonly leash: Readable | undefined;
  readonly signals: SignalSource;
}

/** How a lead agent ended, for whoever started it. */
export interface LeadEnd {
  readonly reason: EndReason;
  readonly exitCode: number;
  readonly error: Error | undefined;
}

/**
 * The lead agent of a job: evaluates what the run's plan has to offer until nothing is left or it is told to stop. When it
 * returns, nothing that it has started runs any more and no batch is held in its name. Never throws: see `error`.
 */
export async function runLead({ context, leash, signals }: LeadOptions): Promise<LeadEnd> {
  const shutdown = new Shutdown();
  const unlisten = listenToSignals(shutdown, signals);
  const letGo = leash === undefined ? () => {} : holdLeash(leash, shutdown);
  try {
    return await lead(context, shutdown);
  } catch (error) {
    return failedEnd(shutdown.failure ?? error);
  } finally {
    letGo();
    unlisten();
  }
}

async function lead(context: JobContext, shutdown: Shutdown): Promise<LeadEnd> {
  const { layout, owner, job, node, log } = context;
  const plan = await readPlan(layout);
  const identity = await identifyThisProcess(owner, context.isLocal ? {} : { job });
  await using events = await openJournal({
    layout,
    runId: plan.run_id,
    node,
    role: "agent",
    hurry: shutdown.aborting,
    onTrouble: (error) => {
      if (error === undefined) log.info("events can be written again");
      else log.error({ hint: error.hint }, error.message);
    },
  });
  const subject = { job };
  await events.publish("agent.started", subject, {
    pid: process.pid,
    owner,
    slots: Math.max(...plan.units.map(({ profile }) => plan.profiles[profile]?.slots ?? 1), 1),
    eval_hive_version: plan.eval_hive_version,
  });
  shutdown.draining.addEventListener("abort", () => {
    events
      .publish("agent.draining", subject, { reason: shutdown.reason ?? "failed" })
      .catch(() => {});
  });
  let end: LeadEnd;
  try {
    const complete = await workAsOwner();
    end = endOf(shutdown, complete);
  } catch (error) {
    end = failedEnd(shutdown.failure ?? error);
  }
  const message = end.error?.message;
  // How it ended counts, not whether that could be written down.
  await events
    .publish("agent.ended", subject, {
      reason: end.reason,
      ...(message !== undefined && { message }),
    })
    .catch((error: unknown) => log.error(messageOf(error)));
  return end;

  async function workAsOwner(): Promise<boolean> {
    await using heartbeat = await startHeartbeat(layout, { identity });
    heartbeat.fenced.addEventListener("abort", () => shutdown.fail(heartbeat.fenced.reason));
    const reaper = new Reaper(layout, identity, events, context.clock);
    await reaper.clearRemains();
    await using processes = openProcesses(context, events, shutdown);
    return await workThroughPlan({ context, processes, events, shutdown, reaper, heartbeat });
  }
}

function endOf(shutdown: Shutdown, complete: boolean): LeadEnd {
  if (shutdown.failure !== undefined) return failedEnd(shutdown.failure);
  const reason = shutdown.reason ?? (complete ? "complete" : "incomplete");
  return {
    reason,
    exitCode: complete ? ExitCode.done : ExitCode.incomplete,
    error: undefined,
  };
}

function failedEnd(thrown: unknown): LeadEnd {
  const first = explainSystemError(firstThrown(thrown));
  const error = first instanceof Error ? first : new Error(String(first));
  return {
    reason: "failed",
    exitCode: error instanceof OperatorError ? error.exitCode : ExitCode.bug,
    error,
  };
}

/** Obeys the pipe to whoever started us. @returns the undoing. */
function holdLeash(leash: Readable, shutdown: Shutdown): () => void {
  const lines = createInterface({ input: leash });
  const lost = () => shutdown.abort("parent-lost");
  lines.on("line", (line) => {
    if (line === "drain") shutdown.drain("interrupted");
    else if (line === "abort") shutdown.abort("interrupted");
  });
  lines.on("close", lost);
  return () => {
    lines.off("close", lost);
    lines.close();
    leash.destroy();
  };
}
