/** Banker's rounding, as Python rounds fractions of seconds to microseconds. */
function roundHalfEven(value: number): number {
  const floor = Math.floor(value);
  const rest = value - floor;
  if (rest !== 0.5) return Math.round(value);
  return floor % 2 === 0 ? floor : floor + 1;
}

/**
 * Seconds since the epoch as `datetime.fromtimestamp(t, tz=timezone.utc).isoformat()` prints them: microseconds, left
 * out when they are 0, and `+00:00`. Undefined for what Python refuses: not finite, or outside the years 1 to 9999.
 */
export function pythonIsoDate(epochSeconds: number): string | undefined {
  if (!Number.isFinite(epochSeconds)) return undefined;
  let seconds = Math.floor(epochSeconds);
  let micros = roundHalfEven((epochSeconds - seconds) * 1e6);
  if (micros >= 1e6) {
    seconds += 1;
    micros = 0;
  }
  const date = new Date(seconds * 1000);
  if (Number.isNaN(date.getTime())) return undefined;
  const year = date.getUTCFullYear();
  if (year < 1 || year > 9999) return undefined;
  const fraction = micros === 0 ? "" : `.${String(micros).padStart(6, "0")}`;
  return `${date.toISOString().slice(0, 19)}${fraction}+00:00`;
}
