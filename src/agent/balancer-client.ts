import { randomBytes } from "node:crypto";
import {
  type Backend,
  type BalancerOrder,
  BalancerReport,
  type Counts,
  type Engine,
  sumCounts,
} from "../balancer/control.ts";
import type { Clock } from "../base/clock.ts";
import { type Child, type ChildOptions, keepChild } from "./child.ts";
import { choosePort } from "./ports.ts";
import { Questions } from "./questions.ts";

/** What of a child's options is the same for all children of the lead agent. */
export type ChildPlace = Pick<
  ChildOptions<BalancerOrder, BalancerReport>,
  "file" | "env" | "cwd" | "logFd" | "log" | "onGivenUp"
> & { readonly clock?: Clock };

/** The address that all requests go to, whatever happens to servers or to the balancer's process. */
export interface BalancerClient extends AsyncDisposable {
  readonly port: number;
  /** `http://127.0.0.1:{port}/eh/{token}/{account}`: a leaf's index and path follow. */
  prefix(account: string): string;
  /** The servers that are up, each time all of them. */
  route(servers: readonly Backend[], options: RouteOptions): void;
  /**
   * Requests of a leaf have a journal from now on, also at a balancer that takes the place of this one.
   * @param onOff told once that nothing more is kept, and why
   */
  openJournal(account: string, leaf: number, files: JournalFiles, onOff: OnOff): void;
  /** Resolves when nothing more is written to the journals of an account, or of one of its leaves; or nobody says so in time. */
  closeJournals(account: string, leaf?: number): Promise<void>;
  /**
   * The counts of an account, or of a leaf of it by its index alone, which are forgotten there; undefined when the balancer
   * was replaced or does not answer.
   */
  settle(account: string, leaf?: number): Promise<Counts | undefined>;
  /** What requests at each server came to up to now, by its id; without what a balancer that died had not told. */
  served(): Promise<ReadonlyMap<string, Counts>>;
  /** What servers said of themselves at last, by their ids; without those that say nothing. */
  readonly engines: ReadonlyMap<string, Engine>;
}

export interface RouteOptions {
  readonly expected: boolean;
  /** Servers that can't be asked now and may be later. */
  readonly missing: number;
  readonly timeoutS: number;
  /** Of all servers that are up, which give equal answers; undefined: they do not, or nobody knows. */
  readonly identity: string | undefined;
}

export interface JournalFiles {
  /** Of earlier evaluations. */
  readonly read: readonly string[];
  /** Begins the names of those that are written: each balancer writes to its own. */
  readonly write: string;
  readonly limitBytes: number;
  readonly budget: { readonly name: string; readonly limitBytes: number };
}

type OnOff = (reason: string) => void;

export interface BalancerEvents {
  readonly onListening: (pid: number, port: number) => void;
  readonly onEnd: (pid: number, how: string) => void;
}

interface OpenJournal {
  readonly account: string;
  readonly part: string;
  readonly files: JournalFiles;
  /** Files that balancers were told to write. */
  readonly own: string[];
  readonly onOff: OnOff;
}

/** @param agentArgs of the program that `place.file` runs: those that make it the balancer. */
export async function openBalancer(
  place: ChildPlace,
  agentArgs: readonly string[],
  events: BalancerEvents,
): Promise<BalancerClient> {
  const token = randomBytes(12).toString("hex");
  // Chosen once, so that a balancer that is replaced has the address that evaluations know.
  const port = await choosePort();
  const settling = new Questions<Counts>();
  const counting = new Questions<true>();
  const closing = new Questions<true>();
  let routes: Extract<BalancerOrder, { type: "servers" }> | undefined;
  /** By server, in earlier lives and in this one. */
  let servedBefore: ReadonlyMap<string, Counts> = new Map();
  let servedNow: ReadonlyMap<string, Counts> = new Map();
  let engines: ReadonlyMap<string, Engine> = new Map();
  const journals = new Map<string, OpenJournal>();
  /** A balancer that takes another's place writes to files of its own. */
  let lives = 0;
  const journalOrder = (journal: OpenJournal): BalancerOrder => {
    const { account, part, files, own } = journal;
    const { read, limitBytes, budget } = files;
    const write = `${files.write}.${lives}`;
    const order: BalancerOrder = {
      type: "journal",
      account,
      part,
      read: [...read],
      own: [...own],
      write,
      limit_bytes: limitBytes,
      budget: { name: budget.name, limit_bytes: budget.limitBytes },
    };
    if (!own.includes(write)) own.push(write);
    return order;
  };
  const child: Child<BalancerOrder> = keepChild<BalancerOrder, BalancerReport>({
    ...place,
    name: "balancer",
    args: agentArgs,
    parse: (line) => BalancerReport.parse(line),
    greeting: () => [
      {
        type: "listen",
        ports: [port],
        token,
        attempt_timeout_s: routes?.attempt_timeout_s ?? 600,
      },
      // Before any request can find a server.
      ...[...journals.values()].map(journalOrder),
      ...(routes === undefined ? [] : [routes]),
    ],
    onReport: (report) => {
      if (report.type === "listening") {
        events.onListening(child.pid ?? 0, report.port);
      } else if (report.type === "totals") {
        servedNow = new Map(Object.entries(report.servers));
        engines = new Map(Object.entries(report.engines));
        counting.answer("totals", true);
      } else if (report.type === "journal-off") {
        journals.get(partKey(report.account, report.part))?.onOff(report.reason);
      } else if (report.type === "journal-closed") {
        closing.answer(partKey(report.account, report.part), true);
      } else if (report.type === "settled") {
        const counts = sumCounts(Object.values(report.parts));
        settling.answer(partKey(report.account, report.part), counts);
      }
    },
    onEnd: (pid, how) => {
      servedBefore = addCounts(servedBefore, servedNow);
      servedNow = new Map();
      engines = new Map();
      for (const questions of [counting, settling, closing]) questions.abandon();
      lives += 1;
      events.onEnd(pid, how);
    },
    closeGraceMs: 2_000,
  });
  return {
    port,
    get engines() {
      return engines;
    },
    prefix: (account) => `http://127.0.0.1:${port}/eh/${token}/${account}`,
    route: (servers, { expected, missing, timeoutS, identity }) => {
      routes = {
        type: "servers",
        servers: [...servers],
        expected,
        missing,
        attempt_timeout_s: timeoutS,
        ...(identity !== undefined && { identity }),
      };
      child.send(routes);
    },
    openJournal: (account, leaf, files, onOff) => {
      const journal = { account, part: `${leaf}`, files, own: [], onOff };
      journals.set(partKey(account, journal.part), journal);
      child.send(journalOrder(journal));
    },
    closeJournals: async (account, leaf) => {
      const part = leaf === undefined ? undefined : `${leaf}`;
      const closed = [...journals].filter(
        ([, one]) => one.account === account && (part === undefined || one.part === part),
      );
      if (closed.length === 0) return;
      for (const [key] of closed) journals.delete(key);
      await closing.ask(partKey(account, part), () =>
        child.send({ type: "close-journal", account, ...(part !== undefined && { part }) }),
      );
    },
    served: async () => {
      await counting.ask("totals", () => child.send({ type: "totals" }));
      return addCounts(servedBefore, servedNow);
    },
    settle: async (account, leaf) => {
      const part = leaf === undefined ? undefined : `${leaf}`;
      return await settling.ask(partKey(account, part), () =>
        child.send({ type: "settle", account, ...(part !== undefined && { part }) }),
      );
    },
    [Symbol.asyncDispose]: () => child[Symbol.asyncDispose](),
  };
}

function addCounts(
  some: ReadonlyMap<string, Counts>,
  others: ReadonlyMap<string, Counts>,
): ReadonlyMap<string, Counts> {
  const sums = new Map(some);
  for (const [id, counts] of others) {
    const before = some.get(id);
    sums.set(id, before === undefined ? counts : sumCounts([before, counts]));
  }
  return sums;
}

function partKey(account: string, part: string | undefined): string {
  return part === undefined ? account : `${account}/${part}`;
}
