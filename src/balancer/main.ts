import { createInterface } from "node:readline";
import type { Readable, Writable } from "node:stream";
import { messageOf } from "../base/errors.ts";
import { BalancerOrder, type BalancerReport } from "./control.ts";
import { type RunningProxy, startProxy } from "./proxy.ts";

const totalsEveryMs = 250;

/** The balancer as a process: serves until its stdin ends. */
export async function runBalancer(stdin: Readable, stdout: Writable): Promise<void> {
  const report = (message: BalancerReport): void => {
    stdout.write(`${JSON.stringify(message)}\n`);
  };
  // Whoever listens may be gone already: then its end of stdin is on its way.
  stdout.on("error", () => {});
  let proxy: RunningProxy | undefined;
  let reported = "";
  const reportTotals = (): void => {
    if (proxy === undefined) return;
    const totals = totalsOf(proxy);
    reported = JSON.stringify(totals);
    report(totals);
  };
  const reportNewTotals = (): void => {
    if (proxy !== undefined && JSON.stringify(totalsOf(proxy)) !== reported) reportTotals();
  };
  const timer = setInterval(reportNewTotals, totalsEveryMs);
  try {
    for await (const line of createInterface({ input: stdin })) {
      const order = BalancerOrder.parse(JSON.parse(line));
      if (order.type === "listen") {
        proxy = await startProxy({ ...order, attemptTimeoutMs: order.attempt_timeout_s * 1000 });
        report({ type: "listening", port: proxy.port });
      } else if (order.type === "totals") {
        reportTotals();
      } else if (order.type === "ping") {
        report({ type: "pong", n: order.n });
      } else if (proxy !== undefined) {
        obey(proxy, order, report);
      }
    }
  } catch (error) {
    report({ type: "fatal", message: messageOf(error) });
    process.exitCode = 1;
  } finally {
    clearInterval(timer);
    // After an order that it does not understand: an open pipe would keep the process.
    stdin.destroy();
    await proxy?.[Symbol.asyncDispose]();
  }
}

function totalsOf({
  accounts,
  load,
  pool,
}: RunningProxy): Extract<BalancerReport, { type: "totals" }> {
  const { inFlight, retries } = load;
  const { waiting } = pool;
  return { type: "totals", ...accounts.totals, in_flight: inFlight, waiting, retries };
}

function obey(
  proxy: RunningProxy,
  order: Extract<BalancerOrder, { type: "servers" | "settle" }>,
  report: (message: BalancerReport) => void,
): void {
  if (order.type === "settle") {
    const counts = proxy.accounts.settle(order.account);
    report({ type: "settled", account: order.account, ...counts });
    return;
  }
  proxy.pool.set(order.servers, order.expected);
  if (order.attempt_timeout_s !== undefined) {
    proxy.attemptTimeoutMs = order.attempt_timeout_s * 1000;
  }
}
