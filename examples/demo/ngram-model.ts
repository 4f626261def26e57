import { type ContextTree, endOfText, findContexts, vocabularySize } from "./context-tree.ts";

/** Probabilities of the next symbol after a text. */
export interface NgramModel {
  /** One per symbol, summing to 1; the array is overwritten by the next call. `end` is the length of the text to look at. */
  predict(text: ArrayLike<number>, end: number): Float64Array;
}

/** A language model over bytes: interpolated Kneser-Ney with three discounts per context length (Chen and Goodman, 1998). */
export function openNgramModel(tree: ContextTree): NgramModel {
  const depths = depthOfNodes(tree);
  const discounts = estimateDiscounts(tree, depths);
  const { followerStart, followerSymbol, followerCount } = tree;

  // A follower's own share, and what its context leaves to the shorter ones, do not depend on what is asked.
  const share = new Float64Array(followerSymbol.length);
  const rest = new Float64Array(depths.length);
  for (let node = 0; node < depths.length; node++) {
    const discount = discounts[depths[node] as number] as Discounts;
    const from = followerStart[node] as number;
    const to = followerStart[node + 1] as number;
    let total = 0;
    let taken = 0;
    for (let at = from; at < to; at++) total += followerCount[at] as number;
    for (let at = from; at < to; at++) {
      const count = followerCount[at] as number;
      const less = discount[Math.min(count, 3) - 1] as number;
      taken += less;
      share[at] = (count - less) / total;
    }
    rest[node] = taken / total;
  }

  const path = new Uint32Array(tree.order + 1);
  const probabilities = new Float64Array(vocabularySize);
  function predict(text: ArrayLike<number>, end: number): Float64Array {
    const length = findContexts(tree, text, end, path);
    let weight = 1;
    probabilities.fill(0);
    for (let depth = length - 1; depth >= 0; depth--) {
      const node = path[depth] as number;
      for (let at = followerStart[node] as number; at < (followerStart[node + 1] as number); at++) {
        const symbol = followerSymbol[at] as number;
        probabilities[symbol] = (probabilities[symbol] as number) + weight * (share[at] as number);
      }
      weight *= rest[node] as number;
    }
    const floor = weight / vocabularySize;
    for (let symbol = 0; symbol < vocabularySize; symbol++) {
      probabilities[symbol] = (probabilities[symbol] as number) + floor;
    }
    return probabilities;
  }
  return { predict };
}

/** Taken from a count of 1, of 2, of 3 or more. */
type Discounts = readonly [number, number, number];

function depthOfNodes(tree: ContextTree): Uint8Array {
  const depths = new Uint8Array(tree.symbol.length);
  for (let node = 0; node < depths.length; node++) {
    const from = tree.childStart[node] as number;
    depths.fill((depths[node] as number) + 1, from, tree.childStart[node + 1] as number);
  }
  return depths;
}

function estimateDiscounts(tree: ContextTree, depths: Uint8Array): Discounts[] {
  const seen = Array.from({ length: tree.order + 1 }, () => [0, 0, 0, 0, 0]);
  for (let node = 0; node < depths.length; node++) {
    const counts = seen[depths[node] as number] as number[];
    const to = tree.followerStart[node + 1] as number;
    for (let at = tree.followerStart[node] as number; at < to; at++) {
      const count = tree.followerCount[at] as number;
      if (count <= 4) counts[count] = (counts[count] as number) + 1;
    }
  }
  return seen.map(([, one = 0, two = 0, three = 0, four = 0]): Discounts => {
    const y = one / (one + 2 * two);
    return [
      within(1 - 2 * y * (two / one), 1),
      within(2 - 3 * y * (three / two), 2),
      within(3 - 4 * y * (four / three), 3),
    ];
  });
}

/** Where a text is too small to estimate a discount, half the count. Never 0: each symbol keeps some probability. */
function within(discount: number, count: number): number {
  if (!Number.isFinite(discount)) return count / 2;
  return Math.min(Math.max(discount, 0.02), count - 0.02);
}

/** Text as the model reads it: a document's start, then its bytes. */
export function encodeDocuments(documents: readonly string[]): Uint16Array {
  const symbols: number[] = [];
  for (const document of documents) symbols.push(endOfText, ...Buffer.from(document));
  symbols.push(endOfText);
  return Uint16Array.from(symbols);
}
