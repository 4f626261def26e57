/** Bytes are their own token ids; one more symbol parts the documents. */
export const endOfText = 256;
export const vocabularySize = 257;

/**
 * What a text says about which symbol follows which context, as a tree: the children of a context are the contexts that
 * are one symbol longer, to the left. Node 0 is the empty context. The children of a node are neighbours, as are its followers.
 */
export interface ContextTree {
  /** The longest context, in symbols. */
  readonly order: number;
  /** Per node, the symbol by which its context is longer than its parent's. */
  readonly symbol: Uint16Array;
  /** Per node and one more: where its children start. */
  readonly childStart: Uint32Array;
  /** Per node and one more: where its followers start. */
  readonly followerStart: Uint32Array;
  readonly followerSymbol: Uint16Array;
  /** How often the follower came: counted for the longest contexts, for all others after how many longer contexts. */
  readonly followerCount: Uint32Array;
}

/** Grows the tree of a text that starts with `endOfText`. A context seen once is not made longer, nor is the start of a document. */
export function growContextTree(text: Uint16Array, order: number): ContextTree {
  const nodes = splitByContext(text, order);
  const { followerStart, followerSymbol, followerCount } = nodes;
  // Kneser-Ney: what a shorter context is asked for are the cases that the longer ones do not know.
  const count = new Uint32Array(vocabularySize);
  for (let node = 0; node < nodes.symbol.length; node++) {
    const first = nodes.childStart[node] as number;
    const end = nodes.childStart[node + 1] as number;
    if (first === end) continue;
    count.fill(0);
    for (let at = followerStart[first] as number; at < (followerStart[end] as number); at++) {
      const symbol = followerSymbol[at] as number;
      count[symbol] = (count[symbol] as number) + 1;
    }
    for (let at = followerStart[node] as number; at < (followerStart[node + 1] as number); at++) {
      followerCount[at] = count[followerSymbol[at] as number] as number;
    }
  }
  return { order, ...nodes };
}

/** Positions of the text, sorted into one bucket per context, shorter contexts first. */
function splitByContext(text: Uint16Array, order: number): Omit<ContextTree, "order"> {
  let positions = Uint32Array.from({ length: text.length - 1 }, (_, index) => index + 1);
  let sorted = new Uint32Array(positions.length);
  const symbols = [0];
  const childStart: number[] = [];
  const followerStart: number[] = [];
  const followerSymbol: number[] = [];
  const followerCount: number[] = [];
  const count = new Uint32Array(vocabularySize);

  // A level of the tree at a time; [starts[i], ends[i]) are the positions whose context the level's i-th node is.
  let starts = [0];
  let ends = [positions.length];
  for (let depth = 0, first = 0; starts.length > 0; depth++) {
    const nextStarts: number[] = [];
    const nextEnds: number[] = [];
    starts.forEach((start, index) => {
      const end = ends[index] as number;
      followerStart.push(followerSymbol.length);
      count.fill(0);
      for (let i = start; i < end; i++) {
        const symbol = text[positions[i] as number] as number;
        count[symbol] = (count[symbol] as number) + 1;
      }
      for (let symbol = 0; symbol < vocabularySize; symbol++) {
        if (count[symbol] === 0) continue;
        followerSymbol.push(symbol);
        followerCount.push(count[symbol] as number);
      }
      childStart.push(symbols.length);
      if (depth === order || end - start === 1) return;
      if (depth > 0 && symbols[first + index] === endOfText) return;
      count.fill(0);
      for (let i = start; i < end; i++) {
        const symbol = text[(positions[i] as number) - depth - 1] as number;
        count[symbol] = (count[symbol] as number) + 1;
      }
      let at = start;
      for (let symbol = 0; symbol < vocabularySize; symbol++) {
        const size = count[symbol] as number;
        if (size === 0) continue;
        symbols.push(symbol);
        nextStarts.push(at);
        nextEnds.push(at + size);
        count[symbol] = at;
        at += size;
      }
      for (let i = start; i < end; i++) {
        const position = positions[i] as number;
        const symbol = text[position - depth - 1] as number;
        sorted[count[symbol] as number] = position;
        count[symbol] = (count[symbol] as number) + 1;
      }
    });
    first += starts.length;
    [positions, sorted] = [sorted, positions];
    starts = nextStarts;
    ends = nextEnds;
  }
  childStart.push(symbols.length);
  followerStart.push(followerSymbol.length);
  return {
    symbol: Uint16Array.from(symbols),
    childStart: Uint32Array.from(childStart),
    followerStart: Uint32Array.from(followerStart),
    followerSymbol: Uint16Array.from(followerSymbol),
    followerCount: Uint32Array.from(followerCount),
  };
}

/** The node of each known context that ends just before `end`, from the empty one to the longest, in `path`. Gives their number. */
export function findContexts(
  tree: ContextTree,
  text: ArrayLike<number>,
  end: number,
  path: Uint32Array,
): number {
  let node = 0;
  let length = 0;
  path[length++] = node;
  for (let at = end - 1; at >= 0 && length <= tree.order; at--) {
    const child = findChild(tree, node, text[at] as number);
    if (child === undefined) break;
    node = child;
    path[length++] = node;
  }
  return length;
}

function findChild(tree: ContextTree, node: number, symbol: number): number | undefined {
  let low = tree.childStart[node] as number;
  let high = tree.childStart[node + 1] as number;
  while (low < high) {
    const middle = (low + high) >> 1;
    const seen = tree.symbol[middle] as number;
    if (seen === symbol) return middle;
    if (seen < symbol) low = middle + 1;
    else high = middle;
  }
  return undefined;
}
