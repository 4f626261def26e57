import { type Clock, systemClock } from "../base/clock.ts";
import type { HeldAnswer, HeldRequest, Upstream } from "./attempt.ts";
import { NoServerError, type Pool } from "./pool.ts";

/** Attempts that may run into the time-out, and answers of 500, before the client is told. */
const maxTimeouts = 3;
const maxServerErrors = 3;
/** Answers that say "not now": back-pressure, or a server that is still loading. */
const maxNotNow = 20;
const notNow = new Set([429, 502, 503, 504]);

const firstPauseMs = 100;
const longestPauseMs = 2_000;

export interface ForwardOptions {
  readonly pool: Pool;
  readonly upstream: Upstream;
  readonly timeoutMs: number;
  /** Aborts when the client has gone. */
  readonly signal: AbortSignal;
  readonly onRetry: () => void;
  readonly clock?: Clock;
}

/**
 * Gets the answer to a request from any server. What can be repeated is repeated: completions are pure for us. A server
 * that is lost costs no tries, because its supervisor decides whether it comes back; 4xx is passed through unchanged.
 * @throws the signal's reason when it aborts.
 */
export async function forward(request: HeldRequest, options: ForwardOptions): Promise<HeldAnswer> {
  const { pool, upstream, signal, clock = systemClock } = options;
  let timeouts = 0;
  let serverErrors = 0;
  let refusals = 0;
  for (let pauseMs = firstPauseMs; ; pauseMs = Math.min(pauseMs * 2, longestPauseMs)) {
    let server: Awaited<ReturnType<Pool["pick"]>>;
    try {
      server = await pool.pick(signal);
    } catch (error) {
      if (error instanceof NoServerError) return refusal(503, error.message);
      throw error;
    }
    let outcome: Awaited<ReturnType<Upstream["attempt"]>>;
    try {
      outcome = await upstream.attempt(server, request, { timeoutMs: options.timeoutMs, signal });
    } finally {
      pool.release(server);
    }
    if (outcome.kind === "answer") {
      const { status } = outcome.answer;
      if (status < 500 && status !== 429) return outcome.answer;
      if (notNow.has(status) && ++refusals >= maxNotNow) return outcome.answer;
      if (!notNow.has(status) && ++serverErrors >= maxServerErrors) return outcome.answer;
    } else if (outcome.kind === "timeout" && ++timeouts >= maxTimeouts) {
      const seconds = options.timeoutMs / 1000;
      return refusal(504, `No answer within ${seconds} s, ${maxTimeouts} times`);
    }
    options.onRetry();
    await clock.sleep(pauseMs * (0.75 + Math.random() / 2), signal);
  }
}

function refusal(status: number, message: string): HeldAnswer {
  const body = Buffer.from(JSON.stringify({ error: { message, type: "eval_hive_balancer" } }));
  return { status, headers: { "content-type": "application/json" }, body };
}
