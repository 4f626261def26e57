import assert from "node:assert/strict";
import { readdir } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { test } from "node:test";
import { openBalancer } from "../../src/agent/balancer-client.ts";
import { sendSignal } from "../../src/base/proc.ts";
import { silentLog } from "../support/logs.ts";
import { root } from "../support/require.ts";
import { temporaryDirectory } from "../support/temporary.ts";
import { until } from "../support/until.ts";

test("a balancer that dies is replaced at its address with its servers; what it had counted is partly lost, and said to be", async () => {
  const upstream = createServer(({ url }, response) =>
    response.end(
      url === "/metrics"
        ? 'sglang:num_running_reqs{model_name="m"} 7.0\n'
        : '{"usage":{"prompt_tokens":5,"completion_tokens":1}}',
    ),
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
  balancer.route(servers, { expected: true, missing: 0, timeoutS: 10, identity: undefined });
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

  // The process looks after five seconds.
  await until(() => balancer.engines.get("0")?.running === 7);

  const settling = balancer.settle("b");
  sendSignal(pids[0] as number, "SIGKILL");
  // It may have answered before it died.
  const settled = await settling;
  assert.ok(settled === undefined || settled.answered === 0);
  await until(() => listening.length === 2);
  assert.equal(balancer.engines.size, 0);
  assert.deepEqual(listening, [balancer.port, balancer.port]);
  assert.equal(await ask("b"), 200);
  assert.equal((await balancer.served()).get("0")?.answered, 3);
  upstream.closeAllConnections();
  upstream.close();
});

test("a balancer that takes another's place reads what that one read, notes it, and gives nothing that is this evaluation's own", async () => {
  await using directory = await temporaryDirectory();
  const bodies: string[] = [];
  const upstream = createServer((request, response) => {
    request.setEncoding("utf8").on("data", (text: string) => void bodies.push(text));
    request.on("end", () => response.end(`{"n":${bodies.length}}`));
  });
  await new Promise<void>((resolve) => upstream.listen(0, "127.0.0.1", resolve));
  const { port: upstreamPort } = upstream.address() as AddressInfo;
  const pids: number[] = [];
  const place = {
    file: process.execPath,
    env: { PATH: process.env["PATH"] },
    cwd: "/",
    logFd: 2,
    log: silentLog,
    onGivenUp: (error: Error) => assert.fail(error),
  };
  await using balancer = await openBalancer(place, [join(root, "src/agent/main.ts"), "balancer"], {
    onListening: (pid) => void pids.push(pid),
    onEnd: () => {},
  });
  const servers = [{ id: "0", url: `http://127.0.0.1:${upstreamPort}` }];
  balancer.route(servers, { expected: true, missing: 0, timeoutS: 10, identity: "servers" });
  const limits = { limitBytes: 1 << 20, budget: { name: "unit", limitBytes: 1 << 20 } };
  const open = (account: string, read: readonly string[]) =>
    balancer.openJournal(
      account,
      0,
      { read, write: join(directory.path, account), ...limits },
      assert.fail,
    );
  const ask = async (account: string, body: string): Promise<string> => {
    const url = `${balancer.prefix(account)}/0/v1/completions`;
    return await (await fetch(url, { method: "POST", body })).text();
  };
  open("a", []);
  await until(() => pids.length === 1);
  assert.deepEqual([await ask("a", "r"), await ask("a", "r")], ['{"n":1}', '{"n":2}']);
  await balancer.closeJournals("a");
  const earlier = (await readdir(directory.path)).map((name) => join(directory.path, name));
  assert.deepEqual(earlier, [join(directory.path, "a.0")]);

  open("b", earlier);
  assert.deepEqual([await ask("b", "r"), await ask("b", "own")], ['{"n":1}', '{"n":3}']);
  sendSignal(pids[0] as number, "SIGKILL");
  await until(() => pids.length === 2);
  const answers = [await ask("b", "own"), await ask("b", "r"), await ask("b", "r")];
  assert.deepEqual(answers, ['{"n":4}', '{"n":2}', '{"n":5}']);
  assert.equal((await balancer.settle("b", 0))?.replayed, 1);
  await balancer.closeJournals("b", 0);
  assert.deepEqual((await readdir(directory.path)).sort(), ["a.0", "b.0", "b.1"]);
  // Nobody is asked about what is not open.
  await balancer.closeJournals("b");
  upstream.closeAllConnections();
  upstream.close();
});
