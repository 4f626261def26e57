import { type Clock, systemClock } from "./clock.ts";

export interface RetryOptions {
  /** Calls in all, the first one included. */
  readonly attempts: number;
  /** Pause before the second call; doubles from call to call. */
  readonly firstDelayMs: number;
  readonly maxDelayMs: number;
  /** False ends at once with the error. Default: every error is tried again. */
  readonly retryable?: (error: unknown) => boolean;
  readonly signal?: AbortSignal;
  readonly clock?: Clock;
}

/** Calls `action` until it succeeds. @throws the last error, or the signal's reason. */
export async function retry<T>(action: () => Promise<T>, options: RetryOptions): Promise<T> {
  const { clock = systemClock, retryable = () => true } = options;
  let delayMs = options.firstDelayMs;
  for (let attempt = 1; ; attempt++) {
    options.signal?.throwIfAborted();
    try {
      return await action();
    } catch (error) {
      if (attempt >= options.attempts || !retryable(error)) throw error;
    }
    await clock.sleep(delayMs, options.signal);
    delayMs = Math.min(delayMs * 2, options.maxDelayMs);
  }
}
