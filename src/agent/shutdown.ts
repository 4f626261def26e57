import type { EventBody } from "../events/event.ts";

export type EndReason = EventBody<"agent.ended">["reason"];

/**
 * The two stages of stopping. Draining: take nothing new, finish the leaf at hand. Aborting: end what runs, at once.
 * Aborting implies draining; the first reason of the latest stage stands.
 */
export class Shutdown {
  readonly #draining = new AbortController();
  readonly #aborting = new AbortController();
  #reason: EndReason | undefined;
  #failure: Error | undefined;

  get draining(): AbortSignal {
    return this.#draining.signal;
  }
  get aborting(): AbortSignal {
    return this.#aborting.signal;
  }
  /** Undefined while nobody has asked to stop. */
  get reason(): EndReason | undefined {
    return this.#reason;
  }
  /** What made it impossible to go on, with the reason `failed`. */
  get failure(): Error | undefined {
    return this.#failure;
  }

  drain(reason: EndReason): void {
    if (this.draining.aborted) return;
    this.#reason = reason;
    this.#draining.abort(new DOMException(`Draining: ${reason}`, "AbortError"));
  }

  /** Aborts because of an error that nobody can handle. */
  fail(error: Error): void {
    if (this.aborting.aborted) return;
    this.#failure = error;
    this.abort("failed");
  }

  abort(reason: EndReason): void {
    if (this.aborting.aborted) return;
    // A second interrupt only makes the first more urgent.
    if (this.#reason === undefined || reason !== "interrupted") this.#reason = reason;
    const error = new DOMException(`Aborting: ${reason}`, "AbortError");
    this.#draining.abort(error);
    this.#aborting.abort(error);
  }
}

/** What signals come from: this process, or a test. */
export interface SignalSource {
  on(signal: NodeJS.Signals, handler: () => void): unknown;
  off(signal: NodeJS.Signals, handler: () => void): unknown;
}

/** Where the requests to stop come from: signals of this process. @returns the undoing. */
export function listenToSignals(shutdown: Shutdown, source: SignalSource): () => void {
  const handlers: Partial<Record<NodeJS.Signals, () => void>> = {
    // Some launchers send their own choice; Node would open its inspector on USR1 without a listener.
    SIGUSR1: () => shutdown.drain("time-limit"),
    SIGUSR2: () => shutdown.drain("time-limit"),
    SIGINT: () =>
      shutdown.draining.aborted ? shutdown.abort("interrupted") : shutdown.drain("interrupted"),
    SIGTERM: () => shutdown.abort("interrupted"),
    // The terminal or the launcher is gone.
    SIGHUP: () => shutdown.abort("parent-lost"),
  };
  const entries = Object.entries(handlers) as [NodeJS.Signals, () => void][];
  for (const [signal, handler] of entries) source.on(signal, handler);
  return () => {
    for (const [signal, handler] of entries) source.off(signal, handler);
  };
}
