import { setTimeout as wait } from "node:timers/promises";

/** Time, injected so that tests move it by hand. */
export interface Clock {
  /** Milliseconds since the epoch: for display and records, never for decisions between machines. */
  now(): number;
  /** Milliseconds that never jump: for durations and deadlines. */
  monotonic(): number;
  /** Resolves after `ms`. @throws the signal's reason when it aborts first. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
}

/** From an instant of `clock.monotonic()` on, in whole milliseconds: what is smaller says nothing. */
export function secondsSince(clock: Clock, startedAtMs: number): number {
  return Math.round(clock.monotonic() - startedAtMs) / 1_000;
}

export const systemClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  sleep: async (ms, signal) => {
    await wait(ms, undefined, signal === undefined ? {} : { signal });
  },
};
