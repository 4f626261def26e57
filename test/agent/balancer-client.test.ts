import assert from "node:assert/strict";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { test } from "node:test";
import { openBalancer } from "../../src/agent/balancer-client.ts";
import { sendSignal } from "../../src/base/proc.ts";
import { silentLog } from "../support/logs.ts";
import { root } from "../support/require.ts";
import { until } from "../support/until.ts";

test("a balancer that dies is replaced at its address with its servers; what it had counted is partly lost, and said to be", async () => {
  const upstream = createServer((_request, response) =>
    response.end('{"usage":{"prompt_tokens":5,"completion_tokens":1}}'),
  );
  await new Promise<void>((resolve) => upstream.listen(0, "127.0.0.1", resolve));
  const { port: upstreamPort } = upstream.address() as AddressInfo;
  const listening: number[] = [];
  const pids: number[] = [];
  await using balancer = await openBalancer(
    {
      file: process.execPath,
      env: { PATH: process.env["PATH"] },
      cwd: "/",
      logFd: 2,
      log: silentLog,
      onGivenUp: (error) => assert.fail(error),
    },
    [join(root, "src/agent/main.ts"), "balancer"],
    {
      onListening: (pid, port) => {
        pids.push(pid);
        listening.push(port);
      },
      onEnd: () => {},
    },
  );
  const servers = [{ id: "0", url: `http://127.0.0.1:${upstreamPort}` }];
  balancer.route(servers, { expected: true, timeoutS: 10 });
  const ask = async (account: string): Promise<number> => {
    const url = `${balancer.prefix(account)}/0/v1/completions`;
    const response = await fetch(url, { method: "POST", body: "{}" });
    await response.arrayBuffer();
    return response.status;
  };
  await until(() => listening.length === 1);
  assert.deepEqual([await ask("a"), await ask("a")], [200, 200]);
  assert.equal((await balancer.served()).get("0")?.answered, 2);
  assert.equal((await balancer.settle("a", 1))?.answered, 0);
  const { queue_s, service_s, ...counts } = (await balancer.settle("a", 0)) ?? assert.fail();
  assert.equal((await balancer.settle("a"))?.answered, 0);
  assert.ok(queue_s >= 0 && service_s > 0);
  assert.deepEqual(counts, {
    answered: 2,
    refused: 0,
    replayed: 0,
    abandoned: 0,
    retries: 0,
    prompt_tokens: 10,
    completion_tokens: 2,
  });

  const settling = balancer.settle("b");
  sendSignal(pids[0] as number, "SIGKILL");
  // It may have answered before it died.
  const settled = await settling;
  assert.ok(settled === undefined || settled.answered === 0);
  await until(() => listening.length === 2);
  assert.deepEqual(listening, [balancer.port, balancer.port]);
  assert.equal(await ask("b"), 200);
  assert.equal((await balancer.served()).get("0")?.answered, 3);
  upstream.closeAllConnections();
  upstream.close();
});
