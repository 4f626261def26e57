/**
 * How long a server asks to be left alone, from `Retry-After` (RFC 9110 section 10.2.3): seconds, or a date.
 * @param now milliseconds since the epoch
 * @returns milliseconds; 0 when it does not say, or not so that it can be understood
 */
export function parseRetryAfter(value: string | undefined, now: number): number {
  if (value === undefined) return 0;
  if (/^\d{1,9}$/.test(value)) return Number(value) * 1000;
  const at = Date.parse(value);
  return Number.isNaN(at) ? 0 : Math.max(0, at - now);
}
