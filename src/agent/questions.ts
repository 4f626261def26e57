const answerTimeoutMs = 3_000;

/** Questions to a child process that may end, or say nothing: then they have no answer. */
export class Questions<Answer> {
  readonly #open = new Map<string, Set<(answer: Answer | undefined) => void>>();

  /** @param send asks it. @returns undefined when there is no answer. */
  async ask(key: string, send: () => void): Promise<Answer | undefined> {
    const { promise, resolve } = Promise.withResolvers<Answer | undefined>();
    const asking = this.#open.get(key) ?? new Set();
    this.#open.set(key, asking.add(resolve));
    const timer = setTimeout(() => resolve(undefined), answerTimeoutMs);
    try {
      send();
      return await promise;
    } finally {
      clearTimeout(timer);
      asking.delete(resolve);
      if (asking.size === 0) this.#open.delete(key);
    }
  }

  /** For all who have asked so. */
  answer(key: string, answer: Answer): void {
    for (const give of this.#open.get(key) ?? []) give(answer);
  }

  /** Nobody will answer any more. */
  abandon(): void {
    for (const asking of this.#open.values()) for (const give of asking) give(undefined);
  }
}
