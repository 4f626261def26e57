import { stat } from "node:fs/promises";
import type { Clock } from "../base/clock.ts";
import { readEpoch } from "../queue/epoch.ts";
import type { RunLayout } from "../run/layout.ts";

const lookEveryMs = 20_000;

/** Sees that the plan was replaced or the queue's epoch raised. */
export interface PlanWatch extends Disposable {
  /** Aborts once: read the plan again, and open another watch. */
  readonly changed: AbortSignal;
}

/** Opened before the plan is read, so that no change falls between. */
export async function openPlanWatch(layout: RunLayout, clock: Clock): Promise<PlanWatch> {
  const before = await markOf(layout);
  const changed = new AbortController();
  const closed = new AbortController();
  const look = async (): Promise<void> => {
    while (!changed.signal.aborted) {
      await clock.sleep(lookEveryMs, closed.signal);
      // A file system that does not answer now is no news about the plan.
      const mark = await markOf(layout).catch(() => before);
      if (mark !== before) changed.abort(new DOMException("The plan has changed", "AbortError"));
    }
  };
  // Ends when the watch is closed.
  look().catch(() => {});
  return { changed: changed.signal, [Symbol.dispose]: () => closed.abort() };
}

async function markOf(layout: RunLayout): Promise<string> {
  const { ino, mtimeMs } = await stat(layout.plan);
  return `${ino} ${mtimeMs} ${await readEpoch(layout)}`;
}
