/** Sizes and times that the balancer keeps to. The defaults are for production; tests shorten the times. */
export interface Limits {
  /** A body up to this size is held whole, so that it can be sent again; a larger one is streamed. */
  readonly holdBytes: number;
  /** A larger request is refused with 413. */
  readonly bodyBytes: number;
  /** Of all bodies that are held at the same time: beyond it new large requests wait and answers are streamed. */
  readonly heldBytes: number;
  /** A client may take so long for the head of a request. */
  readonly headMs: number;
  /** And so long for its body, plus the time that its bytes take at `bodyBytesPerS`. */
  readonly bodyMs: number;
  readonly bodyBytesPerS: number;
  /** And so long to take an answer that is there: until then its bytes are held. */
  readonly takeAnswerMs: number;
  /** A client's connection that carries no request is closed after it: later than clients close theirs (aiohttp: 15 s). */
  readonly clientIdleMs: number;

  readonly connectMs: number;
  readonly idleMs: number;
  /** From one health check to the next; shorter while a server is not well. */
  readonly checkEveryMs: number;
  readonly recheckEveryMs: number;
  readonly checkTimeoutMs: number;
  /** From one reading of what a server says of itself to the next; the second where it says nothing that we know. */
  readonly engineEveryMs: number;
  readonly otherProgramMs: number;
  /** Requests are taken back from a server whose health checks have failed for so long, and which has not answered either. */
  readonly takeBackMs: number;
  /** How long a server may take to show that it lives after it broke a connection or answered 500. */
  readonly diagnoseMs: number;

  /** First pause of a request that no other server can be asked; it doubles up to the longest. */
  readonly pauseMs: number;
  readonly longestPauseMs: number;
  /** The same for 429 and 503, and the longest `Retry-After` that is obeyed. */
  readonly busyPauseMs: number;
  readonly longestBusyPauseMs: number;
  readonly longestRetryAfterMs: number;
  /** After so long of nothing but 429 and 503 the client gets the last of them. */
  readonly busyForMs: number;

  /** A death of a server without a request speaks for the request for so long. */
  readonly deathMemoryMs: number;
  /** How long a request that is suspected of two deaths waits for such a death. */
  readonly verdictMs: number;
  /** A request that was found guilty is refused for so long when it comes again. */
  readonly convictMs: number;
}

const mib = 1 << 20;

export const defaultLimits: Limits = {
  holdBytes: 8 * mib,
  bodyBytes: 512 * mib,
  heldBytes: 1024 * mib,
  headMs: 30_000,
  bodyMs: 30_000,
  bodyBytesPerS: 1024,
  takeAnswerMs: 600_000,
  clientIdleMs: 120_000,

  connectMs: 2_000,
  idleMs: 4_000,
  checkEveryMs: 2_000,
  recheckEveryMs: 500,
  checkTimeoutMs: 5_000,
  engineEveryMs: 5_000,
  otherProgramMs: 60_000,
  takeBackMs: 30_000,
  diagnoseMs: 1_000,

  pauseMs: 100,
  longestPauseMs: 2_000,
  busyPauseMs: 200,
  longestBusyPauseMs: 5_000,
  longestRetryAfterMs: 60_000,
  busyForMs: 600_000,

  deathMemoryMs: 60_000,
  verdictMs: 10_000,
  convictMs: 300_000,
};
