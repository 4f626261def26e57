import { setTimeout as wait } from "node:timers/promises";

/** Waits until `condition` gives a value that is not false, undefined or null, and gives that. @throws after `timeoutMs`. */
export async function until<T>(
  condition: () => T | Promise<T>,
  options: { timeoutMs?: number; what?: string } = {},
): Promise<NonNullable<T>> {
  const { timeoutMs = 30_000, what = condition.toString() } = options;
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    const askedAt = performance.now();
    const value = await condition();
    if (value !== false && value !== undefined && value !== null) return value as NonNullable<T>;
    const now = performance.now();
    if (now > deadline) throw new Error(`Not so after ${timeoutMs} ms: ${what}`);
    // Whoever is waited for needs the machine: what takes long to find out is asked more seldom.
    await wait(Math.min(Math.max(10, 10 * (now - askedAt)), 150));
  }
}
