import assert from "node:assert/strict";
import { createServer, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { describe, test } from "node:test";
import { defaultLimits } from "../../src/balancer/limits.ts";
import { Server } from "../../src/balancer/server.ts";
import { Tally } from "../../src/balancer/tally.ts";
import { watchEngine } from "../../src/balancer/watch-engine.ts";
import type { Clock } from "../../src/base/clock.ts";
import { balance } from "../support/balancing.ts";
import { ManualClock } from "../support/manual-clock.ts";
import { until } from "../support/until.ts";
import { startUpstream } from "../support/upstream.ts";

// Told from the other times.
const limits = { ...defaultLimits, checkTimeoutMs: 7_777 };
const { engineEveryMs, otherProgramMs } = limits;

/** A page of vLLM. */
function page(running: number, promptTokens: number) {
  return (response: ServerResponse): void => {
    response.end(
      [
        `vllm:num_requests_running{engine="0",model_name="m"} ${running}`,
        'vllm:num_requests_waiting{engine="0",model_name="m"} 2.0',
        'vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.5',
        `vllm:prompt_tokens_total{engine="0",model_name="m"} ${promptTokens}`,
        'vllm:generation_tokens_total{engine="0",model_name="m"} 0.0\n',
      ].join("\n"),
    );
  };
}

/** Watches one server under a clock that the test moves: `pass` resolves when the watch waits for its next look. */
async function watch(url: string) {
  const time = new ManualClock();
  let pauseMs = 0;
  const clock: Clock = {
    now: () => time.now(),
    monotonic: () => time.monotonic(),
    sleep: async (ms, signal) => {
      pauseMs = ms;
      await time.sleep(ms, signal);
    },
  };
  const server = new Server({ id: "0", url }, new Tally(), limits, clock);
  const over = new AbortController();
  const ended = watchEngine(server, { limits, clock }, over.signal);
  const looked = () => time.sleepers === 1 && pauseMs !== limits.checkTimeoutMs;
  await until(looked);
  return {
    server,
    pass: async (ms: number): Promise<void> => {
      time.advance(ms);
      await until(looked);
    },
    [Symbol.asyncDispose]: async () => {
      over.abort();
      await ended;
    },
  };
}

describe("what a server says at /metrics", () => {
  test("is read every few seconds, and tells rates from the second time on", async () => {
    await using upstream = await startUpstream();
    await using at = await watch(upstream.url);
    upstream.metrics = page(3, 1_000);
    await at.pass(engineEveryMs);
    const first = { running: 3, waiting: 2, cache_use: 0.5 };
    const unknown = { prompt_tokens_per_s: null, completion_tokens_per_s: null };
    assert.deepEqual(at.server.engine, { ...first, ...unknown });
    upstream.metrics = page(4, 1_000 + engineEveryMs);
    await at.pass(engineEveryMs);
    assert.equal(at.server.engine?.running, 4);
    assert.equal(at.server.engine?.prompt_tokens_per_s, 1_000);
    assert.equal(upstream.asked.length, 0);
  });

  test("is not true any more when the page does not come", async () => {
    await using upstream = await startUpstream();
    await using at = await watch(upstream.url);
    upstream.metrics = page(3, 1_000);
    await at.pass(engineEveryMs);
    assert.equal(at.server.engine?.running, 3);
    upstream.metrics = (response) => response.destroy();
    await at.pass(engineEveryMs);
    assert.equal(at.server.engine, undefined);
  });

  test("is looked for seldom where it is nothing that we know", async () => {
    await using upstream = await startUpstream();
    await using at = await watch(upstream.url);
    let looks = 0;
    upstream.metrics = (response) => {
      looks += 1;
      response.end("process_cpu_seconds_total 3\n");
    };
    await at.pass(engineEveryMs);
    await at.pass(otherProgramMs - 1);
    assert.equal(looks, 1);
    await at.pass(1);
    assert.equal(looks, 2);
    assert.equal(at.server.engine, undefined);
  });

  test("is shown beside the balancer's own counts", async () => {
    await using upstream = await startUpstream();
    upstream.metrics = page(3, 1_000);
    await using at = await balance([], { limits: { engineEveryMs: 1 } });
    at.route([upstream]);
    await until(() => at.balancer.engines.has("0"));
    const [server] = (await at.status()).servers;
    assert.deepEqual([server?.engine?.running, server?.engine?.cache_use], [3, 0.5]);
    const metrics = await (await fetch(`${at.url}/metrics`)).text();
    assert.match(metrics, /^lb_engine_running\{server="0"\} 3$/m);
  });

  test("does not hold up health checks when it hangs", async () => {
    let checks = 0;
    let hangs = false;
    const server = createServer((request, response) => {
      if (request.url === "/metrics") hangs = true;
      else {
        checks += 1;
        response.end("{}");
      }
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    {
      const hasty = { checkEveryMs: 1, engineEveryMs: 1, checkTimeoutMs: 600_000 };
      await using _at = await balance([url], { limits: hasty });
      await until(() => hangs);
      const before = checks;
      await until(() => checks > before + 5);
    }
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  });
});
