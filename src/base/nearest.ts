/** Edits (insert, delete, replace, swap of neighbours) from `a` to `b`. */
function distance(a: string, b: string): number {
  let previous: number[] = [];
  let current = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1];
      let best = Math.min(at(next, j - 1) + 1, at(current, j) + 1, at(current, j - 1) + +!same);
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) {
        best = Math.min(best, at(previous, j - 2) + 1);
      }
      next.push(best);
    }
    previous = current;
    current = next;
  }
  return at(current, b.length);
}

function at(row: readonly number[], index: number): number {
  return row[index] ?? 0;
}

/** Case, dashes and blanks are the mistakes that should cost nothing. */
function fold(name: string): string {
  return name.toLowerCase().replace(/[^a-z0-9]+/g, "_");
}

/** The known name that `name` was probably meant to be: at most a third of it mistyped, or one the start of the other. */
export function nearestName(name: string, known: Iterable<string>): string | undefined {
  const wanted = fold(name);
  let best: { name: string; cost: number } | undefined;
  for (const candidate of known) {
    const other = fold(candidate);
    const edits = distance(wanted, other);
    const isPart = wanted.length >= 4 && (other.includes(wanted) || wanted.includes(other));
    if (edits > Math.max(1, Math.floor(wanted.length / 3)) && !isPart) continue;
    const cost = isPart ? Math.min(edits, 3) : edits;
    if (best === undefined || cost < best.cost) best = { name: candidate, cost };
  }
  return best?.name;
}
