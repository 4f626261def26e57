import { type AgentState, isLive, type RunState, type UnitState } from "../../events/run-state.ts";
import { percent, renderBar, renderColumns, renderCount, renderDuration } from "./quantity.ts";

export interface ProgressView {
  /** The run directory as people know it. */
  readonly title: string;
  /** Since the command began. */
  readonly elapsedS: number;
  /** Lines that there is room for. */
  readonly height: number;
  /** The user has asked to stop. */
  readonly stopping: boolean;
}

/** The live table of `run`: the whole, units, slots. At most `height` lines. Pure. */
export function renderProgress(state: RunState, view: ProgressView): string[] {
  const tail = [...slotLines(state), ...troubleLines(state), ...stoppingLines(view)];
  const head = [totalLine(state, view), ""];
  const room = Math.max(view.height - head.length - tail.length - 1, 3);
  const units = unitLines(state.units, room);
  return [...head, ...units, ...(tail.length > 0 ? ["", ...tail] : [])].slice(0, view.height);
}

/** `12 of 48 leaves (25 %), 41 requests/s, about 2 min left`: what both displays say. Pure. */
export function renderTotals({ leaves, requests_per_s, eta_s }: RunState): string {
  const parts = [`${renderCount(leaves.done)} of ${renderCount(leaves.total)} leaves done`];
  for (const kind of ["invalid", "dead"] as const) {
    if (leaves[kind] > 0) parts.push(`${renderCount(leaves[kind])} ${kind}`);
  }
  if (requests_per_s !== null) parts.push(`${rate(requests_per_s)} requests/s`);
  if (eta_s !== null) parts.push(`about ${renderDuration(eta_s)} left`);
  return parts.join(", ");
}

function rate(perSecond: number): string {
  return perSecond < 10 ? perSecond.toFixed(1) : renderCount(Math.round(perSecond));
}

function totalLine(state: RunState, { title, elapsedS }: ProgressView): string {
  const { done, total } = state.leaves;
  const bar = `${renderBar(done, total)} ${percent(done, total)} %`;
  return `${title}  ${bar}  ${renderTotals(state)}  (${renderDuration(elapsedS)})`;
}

/** What moves comes first, then what needs a person, then what waits; what is done is the least news. */
const order = ["running", "failed", "pending", "not_started", "completed"] as const;
const words = {
  running: "running",
  failed: "failed",
  pending: "waiting",
  not_started: "not started",
  completed: "done",
};

function unitLines(units: readonly UnitState[], room: number): string[] {
  const sorted =
    units.length <= room
      ? units
      : units.toSorted((a, b) => order.indexOf(a.state) - order.indexOf(b.state));
  const shown = units.length <= room ? sorted : sorted.slice(0, room - 1);
  const rows = shown.map(({ unit, state, leaves }) => [
    unit,
    renderBar(leaves.done, leaves.total, 12),
    `${renderCount(leaves.done)}/${renderCount(leaves.total)}`,
    words[state],
  ]);
  const lines = renderColumns(rows, new Set([2]));
  if (shown.length === units.length) return lines;
  const rest = Map.groupBy(sorted.slice(shown.length), ({ state }) => state);
  const counts = order.flatMap((state) => {
    const n = rest.get(state)?.length ?? 0;
    return n === 0 ? [] : [`${renderCount(n)} ${words[state]}`];
  });
  return [...lines, `… and ${counts.join(", ")}`];
}

function slotLines({ agents }: RunState): string[] {
  const live = agents.filter(isLive);
  const rows = live.flatMap(({ at_hand }) =>
    at_hand.map(({ slot, unit, leaf, phase, done, total }) => [
      slot === null ? "next" : `slot ${slot}`,
      unit,
      leaf ?? "",
      phase ?? "",
      total > 0 ? `${renderCount(done)}/${renderCount(total)}` : "",
    ]),
  );
  return [...renderColumns(rows, new Set([4])), ...live.flatMap(serverLines)];
}

/** Servers that serve are no news. */
function serverLines({ servers }: AgentState): string[] {
  return servers
    .filter(({ state }) => state !== "healthy")
    .map(({ server, state, reason, start_attempt }) => {
      const attempt = start_attempt > 1 ? `, start ${start_attempt}` : "";
      return `server ${server} ${state}${attempt}${reason === null ? "" : `: ${firstLine(reason)}`}`;
    });
}

function troubleLines({ units }: RunState): string[] {
  return units.flatMap(({ unit, stopped }) =>
    stopped === null ? [] : [`${unit} was given up: ${firstLine(stopped.reason)}`],
  );
}

function stoppingLines({ stopping }: ProgressView): string[] {
  return stopping ? ["stopping after the leaves at hand; Ctrl-C again stops at once"] : [];
}

function firstLine(text: string): string {
  return text.split("\n", 1)[0] ?? "";
}
