import type { Clock } from "../base/clock.ts";
import { type EngineReading, engineBetween, readEngine } from "./engine.ts";
import type { Limits } from "./limits.ts";
import { probe } from "./probe.ts";
import type { Server } from "./server.ts";

export interface EngineWatchOptions {
  readonly limits: Pick<Limits, "engineEveryMs" | "otherProgramMs" | "checkTimeoutMs">;
  readonly clock: Clock;
}

/**
 * Reads what a server says of itself at /metrics, every few seconds, until the signal aborts: apart from its health checks,
 * which must not wait for such a page. A page that says nothing we know is looked at seldom.
 */
export async function watchEngine(
  server: Server,
  { limits, clock }: EngineWatchOptions,
  signal: AbortSignal,
): Promise<void> {
  const { origin, host } = server;
  const request = { origin, host, path: "/metrics", timeoutMs: limits.checkTimeoutMs, clock };
  let last: { readonly reading: EngineReading; readonly at: number } | undefined;
  let pauseMs = limits.engineEveryMs;
  try {
    for (;;) {
      await clock.sleep(pauseMs, signal);
      pauseMs = limits.engineEveryMs;
      const result = server.standing === "down" ? undefined : await probe(request, signal);
      if (result?.kind !== "answer") {
        // What it said before may not be true any more.
        server.engine = undefined;
        continue;
      }
      const reading = result.status === 200 ? readEngine(result.body.toString()) : undefined;
      const now = reading && { reading, at: clock.monotonic() };
      server.engine = now && engineBetween(last, now);
      last = now;
      // SGLang says nothing before its first requests.
      if (now === undefined) pauseMs = limits.otherProgramMs;
    }
  } catch (error) {
    if (!signal.aborted) throw error;
  }
}
