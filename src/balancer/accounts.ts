import { Tally } from "./tally.ts";

/** Tallies of requests by account and part of it, as the prefixes of their paths name them. */
export class Accounts {
  readonly #open = new Map<string, Map<string, Tally>>();
  /** Of all requests, of settled accounts too. */
  readonly totals = new Tally();

  /** Where the requests of this part are counted. */
  tally(account: string, part: string): Tally {
    let parts = this.#open.get(account);
    if (parts === undefined) {
      parts = new Map();
      this.#open.set(account, parts);
    }
    let tally = parts.get(part);
    if (tally === undefined) {
      tally = new Tally(this.totals);
      parts.set(part, tally);
    }
    return tally;
  }

  /** The parts of an account, or one of them alone, which are forgotten: what comes later opens them anew. */
  settle(account: string, part?: string): ReadonlyMap<string, Tally> {
    const parts = this.#open.get(account) ?? new Map<string, Tally>();
    if (part === undefined) {
      this.#open.delete(account);
      return parts;
    }
    const tally = parts.get(part);
    parts.delete(part);
    return new Map(tally === undefined ? [] : [[part, tally]]);
  }

  /** Those that are not settled. */
  *open(): Iterable<{ readonly account: string; readonly part: string; readonly tally: Tally }> {
    for (const [account, parts] of this.#open) {
      for (const [part, tally] of parts) yield { account, part, tally };
    }
  }
}
