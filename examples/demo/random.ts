/** Repeatable choices: the same seed gives the same text on every machine. */
export interface Random {
  /** From 0 to `limit` - 1. */
  below(limit: number): number;
  pick<T>(items: readonly T[]): T;
  /** Prefers the front of the list, as life prefers some words and people. */
  pickCommon<T>(items: readonly T[]): T;
  shuffle<T>(items: readonly T[]): T[];
}

/** Mulberry32, in integer arithmetic alone. */
export function openRandom(seed: number): Random {
  let state = seed >>> 0;
  function below(limit: number): number {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) % limit;
  }
  const pick = <T>(items: readonly T[]): T => items[below(items.length)] as T;
  const pickCommon = <T>(items: readonly T[]): T =>
    items[Math.min(below(items.length), below(items.length))] as T;
  function shuffle<T>(items: readonly T[]): T[] {
    const shuffled = [...items];
    for (let last = shuffled.length - 1; last > 0; last--) {
      const other = below(last + 1);
      [shuffled[last], shuffled[other]] = [shuffled[other] as T, shuffled[last] as T];
    }
    return shuffled;
  }
  return { below, pick, pickCommon, shuffle };
}
