import { problemsOf } from "../../controller/advice.ts";
import { isLive, type RunState } from "../../events/run-state.ts";
import { renderCommand } from "./command-line.ts";
import { LiveDisplay, type Terminal } from "./live-display.ts";
import { renderProgress, renderTotals } from "./run-progress.ts";
import { renderProblem, renderServerWarning } from "./status.ts";

/** How `run` shows what it is at. Disposing it restores the terminal. */
export interface RunDisplay extends Disposable {
  look(state: RunState): void;
  say(message: string): void;
}

export interface RunDisplayOptions {
  readonly stderr: Terminal & { readonly isTTY?: boolean };
  /** TERM=dumb and --json want lines. */
  readonly plain: boolean;
  /** The run directory as people know it. */
  readonly title: string;
  readonly stopping: () => boolean;
  /** Milliseconds that never jump. */
  readonly monotonic: () => number;
}

/** A live table on a terminal, else a plain line per change. */
export function openRunDisplay(options: RunDisplayOptions): RunDisplay {
  const { stderr, plain, title, stopping, monotonic } = options;
  if (plain || stderr.isTTY !== true) return openPlainDisplay((text) => stderr.write(text));
  const display = new LiveDisplay(stderr);
  const startedAt = monotonic();
  return {
    look: (state) => {
      const elapsedS = (monotonic() - startedAt) / 1000;
      const view = { title, elapsedS, height: display.height, stopping: stopping() };
      display.show(renderProgress(state, view));
    },
    say: (message) => display.say(`eval-hive: ${message}`),
    [Symbol.dispose]: () => display[Symbol.dispose](),
  };
}

function openPlainDisplay(write: (text: string) => unknown): RunDisplay {
  const say = (message: string): void => void write(`eval-hive: ${message}\n`);
  let last = "";
  return {
    look: (state) => {
      // Rates and estimates change all the time: they come with the news, and are none.
      const news = newsOf(state);
      if (news === last) return;
      last = news;
      const at = unitsAtHand(state);
      say(`${renderTotals(state)}${at === "" ? "" : `; at ${at}`}`);
    },
    say,
    [Symbol.dispose]: () => {},
  };
}

function newsOf(state: RunState): string {
  const { done, invalid, dead } = state.leaves;
  return JSON.stringify([done, invalid, dead, unitsAtHand(state)]);
}

function unitsAtHand({ agents }: RunState): string {
  const units = agents.filter(isLive).flatMap(({ at_hand }) => at_hand.map(({ unit }) => unit));
  return [...new Set(units)].join(", ");
}

/** More are shown by status. */
const shownWarnings = 10;

/** What `run` says at its end. */
export function renderRunEnd(state: RunState, directory: string): string {
  const { done, total } = state.leaves;
  const next = done === total ? "collect" : "status";
  return [
    `${done} of ${total} ${total === 1 ? "leaf" : "leaves"} done`,
    ...problemsOf(state).flatMap(renderProblem),
    ...state.server_warnings.slice(-shownWarnings).map(renderServerWarning),
    `next: ${renderCommand(["eval-hive", next, directory])}`,
    "",
  ].join("\n");
}
