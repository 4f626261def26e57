/** What a command that outlives a signal listens to. */
export interface StopSignals {
  /** Aborts on the first signal: end well. */
  readonly interrupted: AbortSignal;
  /** Aborts on the second SIGINT, or on any other signal: end now. */
  readonly aborted: AbortSignal;
  /** 128 + n once a signal has come, else 0. */
  exitCode(): number;
}

const numbers = { SIGHUP: 1, SIGINT: 2, SIGTERM: 15 } as const;
type StopSignal = keyof typeof numbers;

/**
 * Takes over the signals that ask to stop; without it they end the process at once.
 * @param ignoreHangup as `nohup` wants it: Node forgets at its start that the signal was ignored
 * @param gentle the first signal asks to end well, whichever it is: for what is stopped by service managers, not by people
 */
export function listenToSignals(
  source: Pick<NodeJS.Process, "on">,
  { ignoreHangup, gentle = false }: { readonly ignoreHangup: boolean; readonly gentle?: boolean },
): StopSignals {
  const interrupted = new AbortController();
  const aborted = new AbortController();
  let exitCode = 0;
  const stop = (signal: StopSignal): void => {
    exitCode = 128 + numbers[signal];
    const isLast = interrupted.signal.aborted || !(gentle || signal === "SIGINT");
    if (isLast) aborted.abort(new Error(signal));
    interrupted.abort(new Error(signal));
  };
  source.on("SIGINT", () => stop("SIGINT"));
  source.on("SIGTERM", () => stop("SIGTERM"));
  source.on("SIGHUP", () => {
    if (!ignoreHangup) stop("SIGHUP");
  });
  return { interrupted: interrupted.signal, aborted: aborted.signal, exitCode: () => exitCode };
}
