import { createInterface } from "node:readline";
import type { Readable, Writable } from "node:stream";
import { messageOf } from "../base/errors.ts";
import { openLog } from "../base/log.ts";
import { type RunningBalancer, startBalancer } from "./balancer.ts";
import { BalancerOrder, type BalancerReport } from "./control.ts";
import { tallyData } from "./status.ts";

const totalsEveryMs = 250;
/** How long requests wait for servers that are there but do not answer, when no others are expected. */
const noServerMs = 300_000;

/** The balancer as a process: serves until its stdin ends. */
export async function runBalancer(stdin: Readable, stdout: Writable): Promise<void> {
  const report = (message: BalancerReport): void => {
    stdout.write(`${JSON.stringify(message)}\n`);
  };
  // Whoever listens may be gone already: then its end of stdin is on its way.
  stdout.on("error", () => {});
  let balancer: RunningBalancer | undefined;
  let reported = "";
  const reportTotals = (): void => {
    if (balancer === undefined) return;
    const totals = totalsOf(balancer);
    reported = JSON.stringify(totals);
    report(totals);
  };
  const reportNewTotals = (): void => {
    if (balancer !== undefined && JSON.stringify(totalsOf(balancer)) !== reported) reportTotals();
  };
  const timer = setInterval(reportNewTotals, totalsEveryMs);
  try {
    for await (const line of createInterface({ input: stdin })) {
      const order = BalancerOrder.parse(JSON.parse(line));
      if (order.type === "listen") {
        balancer = await start(order);
        report({ type: "listening", port: balancer.port });
      } else if (order.type === "totals") {
        reportTotals();
      } else if (order.type === "ping") {
        report({ type: "pong", n: order.n });
      } else if (balancer !== undefined) {
        obey(balancer, order, report);
      }
    }
  } catch (error) {
    report({ type: "fatal", message: messageOf(error) });
    process.exitCode = 1;
  } finally {
    clearInterval(timer);
    // After an order that it does not understand: an open pipe would keep the process.
    stdin.destroy();
    await balancer?.[Symbol.asyncDispose]();
  }
}

async function start(order: Extract<BalancerOrder, { type: "listen" }>): Promise<RunningBalancer> {
  const { host = "127.0.0.1", ports, token, affinity, health_path: healthPath } = order;
  return await startBalancer({
    host,
    ports,
    token,
    attemptTimeoutMs: order.attempt_timeout_s * 1000,
    ...(affinity !== undefined && { affinity }),
    ...(healthPath !== undefined && { healthPath }),
    log: openLog(2),
  });
}

function totalsOf({
  accounts,
  servers,
  engines,
  inFlight,
  waiting,
}: RunningBalancer): Extract<BalancerReport, { type: "totals" }> {
  return {
    type: "totals",
    ...tallyData(accounts.totals),
    servers: Object.fromEntries([...servers].map(([id, tally]) => [id, tallyData(tally)])),
    engines: Object.fromEntries(engines),
    in_flight: inFlight,
    waiting,
  };
}

function obey(
  balancer: RunningBalancer,
  order: Exclude<BalancerOrder, { type: "listen" | "totals" | "ping" }>,
  report: (message: BalancerReport) => void,
): void {
  switch (order.type) {
    case "servers":
      setServers(balancer, order);
      break;
    case "settle":
      report(settle(balancer, order));
      break;
    case "journal":
      openJournal(balancer, order, report);
      break;
    case "close-journal": {
      const { account, part } = order;
      const closed = {
        type: "journal-closed",
        account,
        ...(part !== undefined && { part }),
      } as const;
      void balancer.journals.close(account, part).then(() => report(closed));
    }
  }
}

type Order<T extends BalancerOrder["type"]> = Extract<BalancerOrder, { type: T }>;

function settle({ accounts }: RunningBalancer, order: Order<"settle">): BalancerReport {
  const { account, part } = order;
  const settled = [...accounts.settle(account, part)];
  const parts = Object.fromEntries(settled.map(([name, tally]) => [name, tallyData(tally)]));
  return { type: "settled", account, ...(part !== undefined && { part }), parts };
}

function openJournal(
  { journals }: RunningBalancer,
  order: Order<"journal">,
  report: (message: BalancerReport) => void,
): void {
  const { account, part, read, own, write, limit_bytes: limitBytes, budget } = order;
  journals.open({
    account,
    part,
    read,
    own,
    write,
    limitBytes,
    budget: { name: budget.name, limitBytes: budget.limit_bytes },
    onOff: (reason) => report({ type: "journal-off", account, part, reason }),
  });
}

function setServers(balancer: RunningBalancer, order: Order<"servers">): void {
  const { servers, expected, missing, attempt_timeout_s, identity } = order;
  if (attempt_timeout_s !== undefined) balancer.attemptTimeoutMs = attempt_timeout_s * 1000;
  const waitMs = servers.length === 0 ? 0 : noServerMs;
  balancer.setServers(servers, {
    waitMs: expected ? Number.POSITIVE_INFINITY : waitMs,
    missing,
    identity,
  });
}
