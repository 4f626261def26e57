/**
 * Tasks that live and die together. The first failure aborts the others; leaving the block aborts and awaits all that
 * still run, so no task outlives its group.
 */
export class TaskGroup implements AsyncDisposable {
  readonly #controller = new AbortController();
  readonly #running = new Set<Promise<void>>();
  readonly #signal: AbortSignal;
  #failure: { error: unknown } | undefined;

  constructor(parent?: AbortSignal) {
    this.#signal =
      parent === undefined
        ? this.#controller.signal
        : AbortSignal.any([parent, this.#controller.signal]);
  }

  /** Aborts when a task fails, the parent aborts, or the group is left. */
  get signal(): AbortSignal {
    return this.#signal;
  }

  start(task: (signal: AbortSignal) => Promise<void>): void {
    const running: Promise<void> = task(this.#signal)
      .catch((error: unknown) => {
        if (this.#signal.aborted && error === this.#signal.reason) return;
        if (error instanceof Error && error.name === "AbortError" && this.#signal.aborted) return;
        this.#failure ??= { error };
        this.#controller.abort(error);
      })
      .finally(() => this.#running.delete(running));
    this.#running.add(running);
  }

  /** Waits until every task has ended. @throws the first failure. */
  async join(): Promise<void> {
    while (this.#running.size > 0) await Promise.all(this.#running);
    if (this.#failure !== undefined) throw this.#failure.error;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#controller.abort(new DOMException("The task group was left", "AbortError"));
    while (this.#running.size > 0) await Promise.all(this.#running);
  }
}
