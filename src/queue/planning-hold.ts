import { type Clock, systemClock } from "../base/clock.ts";
import type { RunLayout } from "../run/layout.ts";
import { type Hold, takeHold } from "./hold.ts";
import type { OwnerIdentity } from "./owner-record.ts";

export interface PlanningHoldOptions {
  readonly identity: OwnerIdentity;
  readonly clock?: Clock;
  readonly signal: AbortSignal;
  /** Told once when somebody else is writing. */
  readonly say: (message: string) => void;
}

const lookAgainMs = { here: 100, elsewhere: 3_000 } as const;

/**
 * Takes the right to publish work and to replace the plan of a run; whoever else does so is waited for. It takes seconds,
 * beside a live `run`. One that fell silent on another machine is waited for until it counts as dead.
 * @throws the signal's reason when it aborts first.
 */
export async function holdPlanning(layout: RunLayout, options: PlanningHoldOptions): Promise<Hold> {
  const { clock = systemClock, signal, say } = options;
  let told = false;
  return await takeHold(layout, layout.planOwners, {
    ...options,
    onHeld: async ({ record, relation }) => {
      if (!told) say(`waiting for process ${record.pid} on "${record.host}", which is planning`);
      told = true;
      await clock.sleep(lookAgainMs[relation], signal);
    },
  });
}
