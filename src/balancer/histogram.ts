/** Upper bounds in milliseconds: from a health check to a long generation. */
export const bucketsMs = [
  1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000, 300_000, 900_000,
] as const;

/** How many durations fell below each bound of `bucketsMs`, and their sum. */
export class Histogram {
  /** One more than bounds: the last counts what is above them all. */
  readonly counts = new Array<number>(bucketsMs.length + 1).fill(0);
  sumMs = 0;
  count = 0;

  add(ms: number): void {
    let n = 0;
    while (n < bucketsMs.length && ms > (bucketsMs[n] as number)) n++;
    this.counts[n] = (this.counts[n] as number) + 1;
    this.sumMs += ms;
    this.count += 1;
  }
}
