interface UnderWay {
  readonly now: Promise<void>;
  /** Of those who came meanwhile. */
  next?: Promise<void>;
}

/**
 * The same work, by key one at a time: calls that come while it is under way share the next, which begins after them. For
 * work that serves whatever came before it, such as the sync of a directory in which hundreds of files are made at once.
 */
export function shareNext(work: (key: string) => Promise<void>): (key: string) => Promise<void> {
  const underWay = new Map<string, UnderWay>();
  const start = async (key: string): Promise<void> => {
    const at: UnderWay = { now: work(key) };
    underWay.set(key, at);
    try {
      await at.now;
    } finally {
      // One that follows takes this one's place as it starts.
      if (at.next === undefined) underWay.delete(key);
    }
  };
  return async (key) => {
    const at = underWay.get(key);
    if (at === undefined) return await start(key);
    at.next ??= at.now.catch(() => {}).then(() => start(key));
    await at.next;
  };
}
