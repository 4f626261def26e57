import type { ExaminationOptions } from "./diagnosis.ts";
import { type HealthEvent, isFrozen } from "./health.ts";
import { type ProbeResult, probe } from "./probe.ts";
import type { Server } from "./server.ts";

export interface WatchOptions extends ExaminationOptions {
  readonly report: (server: Server, event: HealthEvent) => void;
  readonly reportDeath: (server: Server, reason: string) => void;
  /** It shows no sign of life. */
  readonly onFrozen: (server: Server) => void;
}

/** Checks the health of a server until the signal aborts. */
export async function watchServer(
  server: Server,
  options: WatchOptions,
  signal: AbortSignal,
): Promise<void> {
  const { limits, clock, healthPath, onFrozen } = options;
  const { origin, host } = server;
  const request = { origin, host, path: healthPath, timeoutMs: limits.checkTimeoutMs, clock };
  try {
    for (;;) {
      tell(server, await probe(request, signal), options);
      const now = clock.monotonic();
      const since = { answeredAt: server.answeredAt, now, takeBackMs: limits.takeBackMs };
      if (server.inFlight > 0 && isFrozen(server.health, since)) onFrozen(server);
      const { failedChecks, down } = server.health;
      const isWell = failedChecks === 0 && down === undefined;
      await clock.sleep(isWell ? limits.checkEveryMs : limits.recheckEveryMs, signal);
    }
  } catch (error) {
    if (!signal.aborted) throw error;
  }
}

function tell(server: Server, result: ProbeResult, options: WatchOptions): void {
  const { report, reportDeath, limits, healthPath } = options;
  if (result.kind === "answer") {
    // A server without such a page lives, too.
    if (result.status < 500) report(server, { kind: "check-passed" });
    else report(server, failed(`${healthPath} answers ${result.status}`));
  } else if (result.kind === "silent") {
    report(server, failed(`${healthPath} gives no answer within ${limits.checkTimeoutMs} ms`));
  } else if (result.loss.kind !== "refused") {
    report(server, failed(`it ${result.loss.reason}`));
  } else if (server.seen) {
    reportDeath(server, `it ${result.loss.reason}`);
    // Known already, perhaps: then this check has failed like any other.
    report(server, failed(`it ${result.loss.reason}`));
  } else {
    report(server, { kind: "unreachable", reason: `it ${result.loss.reason}` });
  }
}

function failed(reason: string): HealthEvent {
  return { kind: "check-failed", reason };
}
