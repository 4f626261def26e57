/** Repeated measurements of one thing. */
export interface Repeats {
  readonly median: number;
  readonly min: number;
  readonly max: number;
  readonly repeats: number;
}

/** The middle one, or the mean of the two in the middle. @throws {RangeError} when there is none. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const upper = sorted[Math.floor(sorted.length / 2)];
  const lower = sorted[Math.floor((sorted.length - 1) / 2)];
  if (upper === undefined || lower === undefined) throw new RangeError("no values");
  return (lower + upper) / 2;
}

/** To `digits` decimals, as results are kept. */
export function summarize(values: readonly number[], digits = 3): Repeats {
  const round = (value: number) => Number(value.toFixed(digits));
  return {
    median: round(median(values)),
    min: round(Math.min(...values)),
    max: round(Math.max(...values)),
    repeats: values.length,
  };
}

/**
 * Measures each variant `repeats` times, in turn and not one after another: whatever slows the machine for a while slows
 * all of them, and their ratio stays true. Each is called once before, unmeasured, unless `warmUp` is false.
 * @param variants what is measured, by name; each gives its own figure
 */
export async function interleave<Name extends string>(
  variants: Readonly<Record<Name, () => Promise<number>>>,
  options: { readonly repeats: number; readonly warmUp?: boolean; readonly digits?: number },
): Promise<Record<Name, Repeats>> {
  const { repeats, warmUp = true, digits = 3 } = options;
  const all = Object.entries(variants) as [Name, () => Promise<number>][];
  const measured = new Map(all.map(([name]) => [name, [] as number[]]));
  if (warmUp) for (const [, measure] of all) await measure();
  for (let round = 0; round < repeats; round++) {
    for (const [name, measure] of all) measured.get(name)?.push(await measure());
  }
  return Object.fromEntries(
    [...measured].map(([name, values]) => [name, summarize(values, digits)]),
  ) as Record<Name, Repeats>;
}
