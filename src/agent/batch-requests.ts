import { type Counts, sumCounts } from "../balancer/control.ts";
import type { LeafId } from "../run/ids.ts";
import type { JournalLeaf, RequestJournals } from "./request-journals.ts";

/** Who counts and keeps what is asked for a unit. */
export interface RequestDeps {
  /** What the requests of an account, or of one of its leaves by its index, came to; undefined: nobody knows. */
  readonly settle: (account: string, leaf?: number) => Promise<Counts | undefined>;
  /** Of the unit; undefined: nothing is kept. */
  readonly journals?: RequestJournals | undefined;
}

/** What balancer and journals know of a batch's requests: by run request, and by a leaf's place in it. */
export class BatchRequests {
  readonly #deps: RequestDeps;
  readonly #accounts: string[] = [];
  /** What each leaf's requests came to that was settled alone. */
  readonly #settled: (Counts | undefined)[] = [];
  /** Of the run at hand, in the order of its request. */
  #leaves: readonly JournalLeaf[] = [];
  #replayed: ReadonlySet<LeafId> = new Set();

  constructor(deps: RequestDeps) {
    this.#deps = deps;
  }

  /** @param onJournalOff the answers of a leaf are kept no longer, and why */
  async begin(
    account: string,
    leaves: readonly JournalLeaf[],
    onJournalOff: (leaf: LeafId, reason: string) => void,
  ): Promise<void> {
    this.#accounts.push(account);
    this.#leaves = leaves;
    const replayed = await this.#deps.journals?.open(account, leaves, onJournalOff);
    this.#replayed = replayed ?? new Set();
  }

  /** Some answers were kept by an evaluation that was cut off. */
  replays(leaf: LeafId): boolean {
    return this.#replayed.has(leaf);
  }

  /** The run at hand is over: what is kept of its leaves stays for the next evaluation. */
  async end(): Promise<void> {
    const account = this.#accounts.at(-1);
    if (account !== undefined) await this.#deps.journals?.close(account);
  }

  /** What the requests of a leaf that has ended came to; empty: nobody knows. */
  async settleLeaf(leaf: LeafId): Promise<{ served?: Counts }> {
    const place = this.#placeOf(leaf);
    if (place === undefined) return {};
    const served = await this.#deps.settle(place.account, place.index);
    this.#settled.push(served);
    return served === undefined ? {} : { served };
  }

  /** Nothing of the leaf is given to a later evaluation: only what was cut off is. */
  async dropJournal(leaf: LeafId): Promise<void> {
    const place = this.#placeOf(leaf);
    if (place === undefined) return;
    await this.#deps.journals?.drop(place.account, place.index, place.leaf);
  }

  /** Of all that was evaluated; undefined when a balancer took its counts with it. */
  async settle(): Promise<Counts | undefined> {
    const all = [...this.#settled];
    for (const account of this.#accounts) all.push(await this.#deps.settle(account));
    const known = all.filter((counts) => counts !== undefined);
    return known.length === all.length ? sumCounts(known) : undefined;
  }

  #placeOf(id: LeafId) {
    const account = this.#accounts.at(-1);
    const index = this.#leaves.findIndex((leaf) => leaf.id === id);
    const leaf = this.#leaves[index];
    return account === undefined || leaf === undefined ? undefined : { account, index, leaf };
  }
}
