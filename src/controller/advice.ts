import { isLive, type RunState } from "../events/run-state.ts";
import { remedyForLeaf, remedyForUnit } from "./remedies.ts";

/** Something that a person should know of; the same trouble of several leaves is one. */
export interface Problem {
  readonly kind: "stopped" | "dead" | "invalid" | "not_found" | "agent_gone" | "agent_failed";
  /** Of a unit, a model or an agent. */
  readonly about: string;
  /** The decisive line. */
  readonly message: string;
  readonly leaves: readonly string[];
  /** The way out. */
  readonly hint?: string;
}

/** What stands between the run and its end, the gravest first. Pure. */
export function problemsOf(state: RunState): Problem[] {
  const problems: Problem[] = [];
  for (const { unit, stopped } of state.units) {
    if (stopped === null) continue;
    const message = `${stopped.class}: ${stopped.reason}`;
    const hint = remedyForUnit(stopped.class);
    problems.push({ kind: "stopped", about: unit, message, leaves: [], hint });
  }
  for (const { unit, dead } of state.units) {
    const alike = Map.groupBy(dead, (one) =>
      one.class === null
        ? "every attempt ended while this leaf was evaluated (time limit, lost node, broken server)"
        : `${one.class}: ${one.message ?? ""}`,
    );
    for (const [message, all] of alike) {
      const leaves = all.map(({ leaf }) => leaf);
      const hint = remedyForLeaf(all[0]?.class ?? null);
      problems.push({ kind: "dead", about: unit, message, leaves, hint });
    }
  }
  for (const { unit, invalid } of state.units) {
    const alike = Map.groupBy(invalid, ({ reason }) => reason ?? "its scores can't be trusted");
    for (const [message, all] of alike) {
      problems.push({ kind: "invalid", about: unit, message, leaves: all.map(({ leaf }) => leaf) });
    }
  }
  problems.push(...notFoundProblems(state.not_found));
  return state.leaves.open === 0 ? problems : [...problems, ...agentProblems(state)];
}

/** Checkpoints that the config names and training has not written yet. Pure. */
export function notFoundProblems(notFound: RunState["not_found"]): Problem[] {
  return notFound.map(({ model, path, steps }) => {
    const count = steps.length === 1 ? "1 step" : `${steps.length} steps`;
    const which = steps.length === 0 ? "" : ` (${count}: ${steps.join(", ")})`;
    const message = `no checkpoint at "${path}"${which}`;
    return { kind: "not_found", about: model, message, leaves: [] };
  });
}

/** How the last agents ended, as long as work is left. */
function agentProblems({ agents }: RunState): Problem[] {
  if (agents.some(isLive)) return [];
  const last = agents.at(-1);
  if (last === undefined) return [];
  const { owner: about, pid, node, last_at } = last;
  if (last.state === "gone") {
    const message = `process ${pid} on "${node}" ended without a word; last heard of at ${last_at}`;
    return [{ kind: "agent_gone", about, message, leaves: [] }];
  }
  if (last.reason !== "failed") return [];
  const message = last.message ?? `process ${pid} on "${node}" failed`;
  return [{ kind: "agent_failed", about, message, leaves: [] }];
}

export interface NextStep {
  /** Arguments of eval-hive. */
  readonly command: readonly string[];
  readonly why: string;
}

/** What to type next. Pure. @param directory as the user would type it */
export function nextStep({ agents, leaves }: RunState, directory: string): NextStep {
  if (leaves.open > 0 && agents.some(isLive)) {
    return { command: ["status", directory], why: "it goes on by itself; look again with" };
  }
  if (leaves.open > 0) return { command: ["run", directory], why: "nobody is at it; go on with" };
  if (leaves.done === leaves.total) {
    return { command: ["collect", directory], why: "all is done; collect the scores with" };
  }
  return { command: ["collect", directory], why: "nothing is left to try; collect the rest with" };
}
