import type { Queue } from "../../src/queue/queue.ts";

/** An empty queue with its first epoch begun; disposing it removes it. */
export interface QueuePlace extends AsyncDisposable {
  /** By which another process opens the same queue. */
  readonly address: string;
  open(): Promise<Queue>;
  /** What a killed process has left and nobody will look at again: file names, for a message. */
  strays(): Promise<readonly string[]>;
}

/** What the contract needs of a backend. */
export interface QueueBackend {
  readonly name: string;
  /** A module that exports `openAt(address): Promise<Queue>`, for child processes. */
  readonly module: string;
  /**
   * A module to preload, which kills its process with SIGKILL before step number `EH_KILL_AT` of whatever it does to the
   * queue, counted from 1.
   */
  readonly killer: string;
  place(): Promise<QueuePlace>;
}
