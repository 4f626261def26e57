import { randomBytes } from "node:crypto";
import {
  type Backend,
  type BalancerOrder,
  BalancerReport,
  type Counts,
} from "../balancer/control.ts";
import type { Clock } from "../base/clock.ts";
import { type Child, type ChildOptions, keepChild } from "./child.ts";
import { choosePort } from "./ports.ts";

/** What of a child's options is the same for all children of the lead agent. */
export type ChildPlace = Pick<
  ChildOptions<BalancerOrder, BalancerReport>,
  "file" | "env" | "cwd" | "logFd" | "onGivenUp"
> & { readonly clock?: Clock };

export type Totals = Omit<Extract<BalancerReport, { type: "totals" }>, "type">;

/** The address that all requests go to, whatever happens to servers or to the balancer's process. */
export interface BalancerClient extends AsyncDisposable {
  readonly port: number;
  /** `http://127.0.0.1:{port}/eh/{token}/{account}`: a leaf's index and path follow. */
  prefix(account: string): string;
  /** The servers that are up, each time all of them. */
  route(servers: readonly Backend[], options: { expected: boolean; timeoutS: number }): void;
  /** The counts of an account; undefined when the balancer was replaced or does not answer. */
  settle(account: string): Promise<Counts | undefined>;
  /** Since the start of the process at hand. */
  readonly totals: Totals | undefined;
}

export interface BalancerEvents {
  readonly onListening: (pid: number, port: number) => void;
  readonly onEnd: (pid: number, how: string) => void;
  readonly onTotals?: (totals: Totals) => void;
}

const settleTimeoutMs = 3_000;

/** @param agentArgs of the program that `place.file` runs: those that make it the balancer. */
export async function openBalancer(
  place: ChildPlace,
  agentArgs: readonly string[],
  events: BalancerEvents,
): Promise<BalancerClient> {
  const token = randomBytes(12).toString("hex");
  // Chosen once, so that a balancer that is replaced has the address that evaluations know.
  const port = await choosePort();
  const settling = new Map<string, (counts: Counts | undefined) => void>();
  let routes: Extract<BalancerOrder, { type: "servers" }> | undefined;
  let totals: Totals | undefined;
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
      ...(routes === undefined ? [] : [routes]),
    ],
    onReport: (report) => {
      if (report.type === "listening") {
        events.onListening(child.pid ?? 0, report.port);
      } else if (report.type === "totals") {
        const { type: _, ...rest } = report;
        totals = rest;
        events.onTotals?.(rest);
      } else if (report.type === "settled") {
        const { type: _, account, ...counts } = report;
        settling.get(account)?.(counts);
      }
    },
    onEnd: (pid, how) => {
      totals = undefined;
      for (const give of settling.values()) give(undefined);
      events.onEnd(pid, how);
    },
    closeGraceMs: 2_000,
  });
  return {
    port,
    prefix: (account) => `http://127.0.0.1:${port}/eh/${token}/${account}`,
    route: (servers, { expected, timeoutS }) => {
      routes = {
        type: "servers",
        servers: [...servers],
        expected,
        attempt_timeout_s: timeoutS,
      };
      child.send(routes);
    },
    settle: async (account) => {
      const { promise, resolve } = Promise.withResolvers<Counts | undefined>();
      const timer = setTimeout(() => resolve(undefined), settleTimeoutMs);
      settling.set(account, resolve);
      child.send({ type: "settle", account });
      try {
        return await promise;
      } finally {
        clearTimeout(timer);
        settling.delete(account);
      }
    },
    get totals() {
      return totals;
    },
    [Symbol.asyncDispose]: () => child[Symbol.asyncDispose](),
  };
}
