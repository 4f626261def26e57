import type { HeldBytes } from "./held-bytes.ts";
import type { Reply } from "./reply.ts";
import type { AnswerKeeping, ForwardRequest } from "./request.ts";
import {
  type JournalBudget,
  RequestJournal,
  type RequestJournalOptions,
} from "./request-journal.ts";

/** A journal for the requests of one part of an account. */
export interface JournalOrder
  extends Pick<RequestJournalOptions, "read" | "own" | "write" | "limitBytes"> {
  readonly account: string;
  readonly part: string;
  /** Journals with the same name have this many bytes together. */
  readonly budget: { readonly name: string; readonly limitBytes: number };
  readonly onOff: RequestJournalOptions["onOff"];
}

/** The journals of all requests that have one, by the prefixes of their paths. */
export class Journals {
  readonly #held: HeldBytes;
  readonly #open = new Map<string, Map<string, RequestJournal>>();
  readonly #budgets = new Map<string, JournalBudget>();
  /** Of the servers that are up; undefined: none is. */
  #servers: { readonly identity: string | undefined } | undefined;

  constructor(held: HeldBytes) {
    this.#held = held;
  }

  find(account: string, part: string): RequestJournal | undefined {
    return this.#open.get(account)?.get(part);
  }

  /** From now on the requests of this part have a journal. */
  open({ account, part, budget: { name, limitBytes }, ...options }: JournalOrder): void {
    let parts = this.#open.get(account);
    if (parts === undefined) {
      parts = new Map();
      this.#open.set(account, parts);
    }
    const budget = this.#budgets.get(name) ?? { bytes: 0, limitBytes };
    budget.limitBytes = limitBytes;
    this.#budgets.set(name, budget);
    const journal = new RequestJournal({ ...options, budget, held: this.#held });
    if (this.#servers !== undefined) journal.setServers(this.#servers.identity);
    parts.set(part, journal);
  }

  /** Of an account, or of one part of it. Resolves when nothing of them is written any more. */
  async close(account: string, part?: string): Promise<void> {
    const parts = this.#open.get(account);
    if (parts === undefined) return;
    const closing = part === undefined ? [...parts.keys()] : [part];
    const journals = closing.map((name) => parts.get(name));
    for (const name of closing) parts.delete(name);
    if (parts.size === 0) this.#open.delete(account);
    await Promise.all(journals.map((journal) => journal?.close()));
  }

  async closeAll(): Promise<void> {
    await Promise.all([...this.#open.keys()].map((account) => this.close(account)));
  }

  /** @param servers how many are up. @param identity as for `RequestJournal.setServers` */
  setServers(servers: number, identity: string | undefined): void {
    // Who comes back is looked at when it is back.
    this.#servers = servers === 0 ? undefined : { identity };
    if (this.#servers === undefined) return;
    for (const parts of this.#open.values()) {
      for (const journal of parts.values()) journal.setServers(identity);
    }
  }
}

/** Sees to it that requests are answered. */
export interface Answering {
  forward(request: ForwardRequest, reply: Reply, done: () => void): void;
}

/** Answers requests from their journals, and leaves all others to `next`. */
export class Replay implements Answering {
  readonly #next: Answering;

  constructor(next: Answering) {
    this.#next = next;
  }

  forward(request: ForwardRequest, reply: Reply, done: () => void): void {
    const { journal } = request;
    if (journal?.isInQuestion(request) === true) void this.#replay(journal, request, reply, done);
    else this.#next.forward(request, reply, done);
  }

  async #replay(
    journal: AnswerKeeping,
    request: ForwardRequest,
    reply: Reply,
    done: () => void,
  ): Promise<void> {
    const answer = await journal.find(request).catch(() => undefined);
    if (answer === undefined) {
      this.#next.forward(request, reply, done);
      return;
    }
    if (reply.gone) request.tally.addAbandoned();
    else request.tally.addReplayed();
    reply.send(answer, { request: request.id, server: "journal", attempts: 0 });
    done();
  }
}
