import type { Engine } from "../../balancer/control.ts";
import { nextStep, type Problem, problemsOf } from "../../controller/advice.ts";
import type { RunLook } from "../../controller/status.ts";
import {
  type AgentState,
  isLive,
  type LeafCounts,
  type LeafState,
  leafStates,
  type RunState,
  unitStates,
} from "../../events/run-state.ts";
import type { ServerLoad, ServerWarning } from "../../events/writer-state.ts";
import type { SuiteNode } from "../../lmeval/task-tree.ts";
import type { LeafId } from "../../run/ids.ts";
import type { RunLayout } from "../../run/layout.ts";
import type { Plan, PlannedUnit } from "../../run/plan.ts";
import { renderCommand } from "./command-line.ts";
import { percent, renderBar, renderColumns, renderCount, renderDuration } from "./quantity.ts";

/** What `status --json` prints: the state of the run as it is, with problems and the next command. */
export function statusData(look: RunLook, layout: RunLayout, detailed: boolean): object {
  const { plan } = look.facts;
  const { units, ...rest } = look.state;
  const details = detailed ? plan.units.map((unit) => detailsOf(look, unit)) : [];
  return {
    schema_version: 1,
    run: layout.directory,
    ...rest,
    units: units.map((unit, at) => ({ ...unit, ...details[at] })),
    problems: problemsOf(look.state),
    record: look.record,
    next: nextStep(look.state, layout.directory),
  };
}

export interface StatusView {
  /** The run directory as the user typed it. */
  readonly shownAs: string;
  readonly layout: RunLayout;
  readonly detailed: boolean;
}

/** What `status` prints for people. */
export function renderStatus(look: RunLook, view: StatusView): string {
  const { state, facts } = look;
  const sections = [
    [`Run ${view.shownAs}, created ${minute(facts.plan.created_at)} UTC`],
    unitTable(state),
    totals(state),
    view.detailed ? facts.plan.units.flatMap((unit) => detailLines(look, unit)) : [],
    runningNow(state),
    problemLines(look, view),
    warningLines(state, view),
    nextLines(state, view),
  ];
  const text = sections.filter((lines) => lines.length > 0).map((lines) => lines.join("\n"));
  return `${text.join("\n\n")}\n`;
}

function unitTable({ units }: RunState): string[] {
  const header = ["unit", "state", "", "", "done", "invalid", "dead", "running", "open"];
  const rows = units.map(({ unit, state, leaves }) => [
    unit,
    state,
    renderBar(leaves.done, leaves.total),
    `${percent(leaves.done, leaves.total)} %`,
    `${renderCount(leaves.done)}/${renderCount(leaves.total)}`,
    ...[leaves.invalid, leaves.dead, leaves.running, leaves.open].map(orDash),
  ]);
  return renderColumns([header, ...rows], new Set([3, 4, 5, 6, 7, 8]));
}

function orDash(value: number): string {
  return value === 0 ? "-" : renderCount(value);
}

function totals(state: RunState): string[] {
  const { leaves, units, unit_states: counts } = state;
  const states = unitStates
    .filter((name) => counts[name] > 0)
    .map((name) => `${renderCount(counts[name])} ${name}`);
  const lines = [
    `${count(units.length, "unit")}: ${states.join(", ") || "none"}`,
    `${renderCount(leaves.done)} of ${count(leaves.total, "leaf", "leaves")} done (${percent(leaves.done, leaves.total)} %)${leftOver(leaves)}`,
  ];
  const replayed = state.replayed > 0 ? ` (${renderCount(state.replayed)} from journals)` : "";
  const asked = [`${count(state.requests, "request")} answered${replayed}`];
  if (state.prompt_tokens !== null) asked.push(`${renderCount(state.prompt_tokens)} prompt tokens`);
  if (state.completion_tokens !== null) {
    asked.push(`${renderCount(state.completion_tokens)} generated tokens`);
  }
  if (state.requests_per_s !== null) asked.push(`${state.requests_per_s.toFixed(1)} requests/s`);
  if (state.eta_s !== null) asked.push(`about ${renderDuration(state.eta_s)} left`);
  if (state.last_at !== null) lines.push(asked.join(", "));
  return lines;
}

function leftOver({ invalid, dead, open }: LeafCounts): string {
  const parts = [
    invalid > 0 ? `${renderCount(invalid)} invalid` : "",
    dead > 0 ? `${renderCount(dead)} dead` : "",
    open > 0 ? `${renderCount(open)} open` : "",
  ].filter((part) => part !== "");
  return parts.length === 0 ? "" : `, ${parts.join(", ")}`;
}

function runningNow({ agents }: RunState): string[] {
  const live = agents.filter(isLive);
  return live.length === 0 ? [] : ["Running now:", ...live.flatMap(agentLines)];
}

function agentLines(agent: AgentState): string[] {
  const servers = Map.groupBy(agent.servers, ({ state }) => state);
  const words = [
    `process ${agent.pid} on ${agent.node}${agent.job === null ? "" : `, job ${agent.job}`}`,
    count(agent.slots, "slot"),
    ...[...servers].map(([state, all]) => `${count(all.length, "server")} ${state}`),
  ];
  if (agent.state === "draining") words.push(`draining (${agent.reason ?? "no reason given"})`);
  const rows = agent.at_hand.map(
    ({ slot, unit, leaf, phase, done, total, not_journalled: off }) => [
      slot === null ? "    next" : `    slot ${slot}`,
      unit,
      leaf ?? (slot === null ? "" : "between two leaves"),
      phase ?? "",
      total > 0 ? `${renderCount(done)}/${renderCount(total)}` : "",
      leaf !== null && off[leaf] !== undefined ? `not journalled: ${off[leaf]}` : "",
    ],
  );
  return [`  ${words.join(", ")}`, ...renderColumns(rows, new Set([4]))];
}

/** More are in `--json`. */
const shownProblems = 20;

function problemLines(look: RunLook, { layout, detailed }: StatusView): string[] {
  const problems = problemsOf(look.state);
  const shown = detailed ? problems : problems.slice(0, shownProblems);
  const lines = shown.flatMap(renderProblem).map((line) => `  ${line}`);
  const more = problems.length - shown.length;
  if (more > 0) lines.push(`  and ${more} more: see --detailed or --json`);
  if (look.record.missing > 0 || look.record.damaged > 0) {
    lines.push(
      `  record of events: ${count(look.record.missing, "event")} missing, ${count(look.record.damaged, "line")} unreadable; counts of leaves do not depend on it`,
    );
  }
  if (lines.length === 0) return [];
  return ["Problems:", ...lines, ...(problems.length > 0 ? [`  Logs are in ${layout.logs}`] : [])];
}

/** What was found odd about servers: scores may depend on it. */
function warningLines({ server_warnings: all }: RunState, { detailed }: StatusView): string[] {
  if (all.length === 0) return [];
  const shown = detailed ? all : all.slice(-shownProblems);
  const more = all.length - shown.length;
  return [
    "Servers:",
    ...shown.map((warning) => `  ${renderServerWarning(warning)}`),
    ...(more > 0 ? [`  and ${more} more: see --detailed or --json`] : []),
  ];
}

export function renderServerWarning({ unit, message, node }: ServerWarning): string {
  return `${unit ?? "server"} on ${node}: warning: ${message}`;
}

/** What is wrong, and below it the way out. */
export function renderProblem(problem: Problem): string[] {
  const { hint } = problem;
  return [problemText(problem), ...(hint === undefined ? [] : [`  ${hint}`])];
}

function problemText({ kind, about, message, leaves }: Problem): string {
  switch (kind) {
    case "stopped":
      return `${about} was given up: ${message}`;
    case "dead":
      return `${about}: dead: ${named(leaves)}: ${message}`;
    case "invalid":
      return `${about}: invalid: ${named(leaves)}: ${message}`;
    case "not_found":
      return `${about}: not found yet: ${message}`;
    case "agent_gone":
    case "agent_failed":
      return message;
  }
}

function named(leaves: readonly string[]): string {
  const first = leaves.slice(0, 3).join(", ");
  return leaves.length > 3 ? `${first} and ${leaves.length - 3} more` : first;
}

function nextLines(state: RunState, { shownAs }: StatusView): string[] {
  const { command, why } = nextStep(state, shownAs);
  return [`Next: ${why}`, `  ${renderCommand(["eval-hive", ...command])}`];
}

interface UnitDetails {
  readonly suites: readonly { suite: string; done: number; total: number }[];
  readonly leaf_states: Readonly<Record<string, LeafState>>;
}

function detailsOf({ facts }: RunLook, unit: PlannedUnit): UnitDetails {
  const states = leafStates(facts.plan, unit, facts.units.get(unit.id));
  const suites = suiteLeaves(facts.plan).map(({ suite, leaves }) => ({
    suite,
    done: leaves.filter((leaf) => states.get(leaf) === "done").length,
    total: leaves.length,
  }));
  return { suites, leaf_states: Object.fromEntries(states) };
}

/** Each suite's leaves, once each. */
function suiteLeaves({ suites }: Plan): { suite: string; leaves: LeafId[] }[] {
  return suites.map((suite) => ({ suite: suite.name, leaves: [...new Set(leavesOf(suite))] }));
}

function leavesOf(node: SuiteNode): LeafId[] {
  if (node.leaf_id !== null) return [node.leaf_id as LeafId];
  return node.children.flatMap(leavesOf);
}

function detailLines(look: RunLook, unit: PlannedUnit): string[] {
  const { suites, leaf_states: states } = detailsOf(look, unit);
  const rows = suites.map(({ suite, done, total }) => [
    `  ${suite}`,
    renderBar(done, total),
    `${percent(done, total)} %`,
    `${renderCount(done)}/${renderCount(total)}`,
  ]);
  const unsettled = Map.groupBy(
    Object.entries(states).filter(([, state]) => state !== "done"),
    ([, state]) => state,
  );
  const rest = [...unsettled].map(
    ([state, all]) => `  ${state}: ${all.map(([leaf]) => leaf).join(", ")}`,
  );
  const loads = look.state.units.find((one) => one.unit === unit.id)?.servers ?? [];
  return [
    `${unit.id}:`,
    ...renderColumns(rows, new Set([2, 3])),
    ...rest,
    ...renderColumns(loads.map(loadRow), new Set([2])),
  ];
}

/** What a server has done for a unit, by the balancer's count; behind it what the server says of itself. */
function loadRow({ server, node, job, served, engine }: ServerLoad): string[] {
  const { refused, retries, queue_s, service_s, prompt_tokens, completion_tokens } = served;
  const requests = served.answered + refused + served.abandoned;
  const words = [
    ...(prompt_tokens === null ? [] : [`${renderCount(prompt_tokens)} prompt tokens`]),
    ...(completion_tokens === null ? [] : [`${renderCount(completion_tokens)} generated tokens`]),
    ...(refused > 0 ? [count(refused, "error")] : []),
    ...(retries > 0 ? [count(retries, "retry", "retries")] : []),
    ...(requests > 0
      ? [`${seconds(queue_s / requests)} waiting and ${seconds(service_s / requests)} at it each`]
      : []),
    ...(engine === null ? [] : [`now ${engineWords(engine)}`]),
  ];
  return [
    `  server ${server}`,
    `${node}${job === null ? "" : `, job ${job}`}`,
    `${renderCount(served.answered)} answered`,
    words.join(", "),
  ];
}

function engineWords(engine: Engine): string {
  const { running, waiting, cache_use, prompt_tokens_per_s, completion_tokens_per_s } = engine;
  const perSecond = (tokens: number, kind: string) =>
    `${renderCount(Math.round(tokens))} ${kind} tokens/s`;
  return [
    `${running} running and ${waiting} waiting in it`,
    ...(cache_use === null ? [] : [`cache ${percent(cache_use, 1)} %`]),
    ...(prompt_tokens_per_s === null ? [] : [perSecond(prompt_tokens_per_s, "prompt")]),
    ...(completion_tokens_per_s === null ? [] : [perSecond(completion_tokens_per_s, "generated")]),
  ].join(", ");
}

function seconds(value: number): string {
  return `${value.toFixed(value < 10 ? 2 : 0)} s`;
}

function count(value: number, noun: string, plural = `${noun}s`): string {
  return `${renderCount(value)} ${value === 1 ? noun : plural}`;
}

/** `2026-11-24 04:00` */
function minute(iso: string): string {
  return iso.slice(0, 16).replace("T", " ");
}
