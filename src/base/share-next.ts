/**
 * The same work, by key one at a time: calls that come while it is under way share the next, which begins after them. For
 * work that serves whatever came before it, such as the sync of a directory in which hundreds of files are made at once.
 */
export function shareNext(work: (key: string) => Promise<void>): (key: string) => Promise<void> {
  const underWay = new Map<string, { readonly now: Promise<void>; next?: Promise<void> }>();
  const start = async (key: string): Promise<void> => {
    const at = { now: work(key) };
    underWay.set(key, at);
    try {
      await at.now;
    } finally {
      if (underWay.get(key) === at) underWay.delete(key);
    }
  };
  return async (key) => {
    const at = underWay.get(key);
    if (at === undefined) return await start(key);
    at.next ??= at.now.catch(() => {}).then(() => start(key));
    await at.next;
  };
}
