import { stat } from "node:fs/promises";
import { readEpoch } from "../queue/epoch.ts";
import type { RunLayout } from "../run/layout.ts";

const lookEveryMs = 20_000;

/** Sees that the plan was replaced or the queue's epoch raised. */
export interface PlanWatch extends Disposable {
  /** Aborts once: read the plan again, and open another watch. */
  readonly changed: AbortSignal;
}

/** Opened before the plan is read, so that no change falls between. */
export async function openPlanWatch(layout: RunLayout): Promise<PlanWatch> {
  const before = await markOf(layout);
  const changed = new AbortController();
  let looking = false;
  const look = async (): Promise<void> => {
    if (looking) return;
    looking = true;
    try {
      if ((await markOf(layout)) !== before) {
        changed.abort(new DOMException("The plan has changed", "AbortError"));
      }
    } catch {
      // A file system that does not answer now is no news about the plan.
    } finally {
      looking = false;
    }
  };
  const timer = setInterval(() => void look(), lookEveryMs);
  timer.unref();
  return { changed: changed.signal, [Symbol.dispose]: () => clearInterval(timer) };
}

async function markOf(layout: RunLayout): Promise<string> {
  const { ino, mtimeMs } = await stat(layout.plan);
  return `${ino} ${mtimeMs} ${await readEpoch(layout)}`;
}
