const minute = 60;
const hour = 60 * minute;
const day = 24 * hour;

/** The ways to write a Slurm time limit (sbatch(1), --time), for messages. */
export const timeLimitForms = "M, M:S, H:M:S, D-H, D-H:M, D-H:M:S or 0";

/**
 * A Slurm time limit in seconds; 0 means none of its own (the partition's holds).
 * @returns undefined when it is none.
 */
export function parseTimeLimit(text: string): number | undefined {
  const match = /^(?:([0-9]+)-)?([0-9]+)(?::([0-9]+))?(?::([0-9]+))?$/.exec(text);
  if (match === null) return undefined;
  const [days, first, second, third] = match.slice(1).map((part) => part && Number(part));
  const [a, b, c] = [first, second, third].map((part) => Number(part ?? 0)) as [
    number,
    number,
    number,
  ];
  if (days !== undefined) return Number(days) * day + a * hour + b * minute + c;
  if (third !== undefined) return a * hour + b * minute + c;
  return a * minute + b;
}
