import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { balance, type Client, openClient, type TestBalancer } from "../support/balancing.ts";
import { answerTo, type Behaviour } from "../support/faulty-server.ts";
import { isLong } from "../support/require.ts";
import { type ServerProcess, startServerProcesses } from "../support/server-process.ts";
import { until } from "../support/until.ts";
import { answer, startUpstream } from "../support/upstream.ts";

/** A request whose answer is known. */
function prompt(n: number | string, bytes = 2_000): string {
  return `prompt ${n} ${"x".repeat(bytes)}`;
}

async function ask(client: Client, text: string, answerBytes = 2_000): Promise<void> {
  const { status, body } = await client.post(
    "/v1/completions",
    JSON.stringify({ prompt: text, answer_bytes: answerBytes }),
  );
  assert.equal(status, 200, body.slice(0, 200));
  // The difference would fill the screen.
  assert.ok(body === answerTo(text, answerBytes), `not the answer to ${text.slice(0, 20)}`);
}

/** So many clients, each with one request after the other, until all are asked. @throws when one is not answered well */
async function load(
  client: Client,
  { requests, width, bytes = 200 }: { requests: number; width: number; bytes?: number },
): Promise<void> {
  let next = 0;
  await Promise.all(
    Array.from({ length: width }, async () => {
      for (let n = next++; n < requests; n = next++) await ask(client, prompt(n, bytes), bytes);
    }),
  );
}

/** Waits until so many requests are at servers. */
async function untilInFlight(balancing: TestBalancer, count: number): Promise<void> {
  await until(async () => {
    const { servers } = await balancing.status();
    return servers.reduce((sum, { in_flight }) => sum + in_flight, 0) === count;
  });
}

async function behaveAll(
  servers: readonly ServerProcess[],
  behaviour: Behaviour = {},
): Promise<void> {
  await Promise.all(servers.map((server) => server.behave(behaviour)));
}

function first(servers: readonly ServerProcess[]): ServerProcess {
  return servers[0] as ServerProcess;
}

describe("no client sees an error when", () => {
  for (const [size, bytes] of [
    ["2 KB", 2_000],
    ["200 KB", 200_000],
  ] as const) {
    test(`one of four servers is killed with 100 requests of ${size} in flight`, async () => {
      await using servers = await startServerProcesses(4);
      await behaveAll(servers, { hold: true });
      await using balancing = await balance(servers);
      using client = openClient(balancing.url);
      const answered = Array.from({ length: 100 }, (_, n) => ask(client, prompt(n, bytes), bytes));
      await untilInFlight(balancing, 100);
      await first(servers).kill();
      await behaveAll(servers.slice(1));
      await Promise.all(answered);
      const { retries_by_reason, servers: seen, refused } = await balancing.status();
      assert.deepEqual([retries_by_reason["died"], refused], [25, 0]);
      assert.deepEqual(
        seen.map(({ standing, in_flight, deaths }) => [standing, in_flight, deaths]),
        [["down", 0, 1], ...Array(3).fill(["ready", 0, 0])],
      );
    });
  }

  test("one of four servers freezes: its requests are taken back", async () => {
    await using servers = await startServerProcesses(4);
    await behaveAll(servers, { hold: true });
    const limits = { checkTimeoutMs: 1_500, takeBackMs: 3_000 };
    await using balancing = await balance(servers, { limits });
    using client = openClient(balancing.url);
    const answered = Array.from({ length: 100 }, (_, n) => ask(client, prompt(n)));
    await untilInFlight(balancing, 100);
    first(servers).signal("SIGSTOP");
    await behaveAll(servers.slice(1));
    await Promise.all(answered);
    const { retries_by_reason, servers: seen } = await balancing.status();
    assert.equal(retries_by_reason["taken-back"], 25);
    assert.equal(seen[0]?.standing, "down");
    first(servers).signal("SIGCONT");
    await until(async () => (await balancing.status()).servers[0]?.standing === "ready");
  });

  test("servers close connections just when they are used again, and none of them is put out", async () => {
    const requestsOf = new Map<object, number>();
    let resets = 0;
    await using upstream = await startUpstream(({ request: { socket }, response }, n) => {
      const before = requestsOf.get(socket) ?? 0;
      requestsOf.set(socket, before + 1);
      if (before > 0 && n % 20 === 0) {
        resets += 1;
        socket.resetAndDestroy();
      } else {
        answer(response, 200);
      }
    });
    await using balancing = await balance([upstream]);
    using client = openClient(balancing.url);
    const post = async () => await client.post("/v1/completions", "{}");
    for (let round = 0; round < 40; round++) {
      const answers = await Promise.all(Array.from({ length: 10 }, post));
      assert.ok(answers.every(({ status }) => status === 200));
    }
    const { retries_by_reason, servers } = await balancing.status();
    assert.ok(resets > 5, `${resets} resets`);
    assert.deepEqual(retries_by_reason, { stale: resets });
    assert.deepEqual([servers[0]?.ejections, servers[0]?.deaths], [0, 0]);
  });

  test("one of four servers answers 500 at once: it gets hardly any traffic", async () => {
    await using servers = await startServerProcesses(4);
    await behaveAll(servers, { delayMs: 20 });
    await first(servers).behave({ fault: "error" });
    await using balancing = await balance(servers);
    using client = openClient(balancing.url);
    const requests = 2_000;
    await load(client, { requests, width: 40 });
    const { servers: seen } = await balancing.status();
    const bad = seen[0]?.statuses[500] ?? 0;
    assert.ok(bad > 0 && bad <= requests / 100, `${bad} of ${requests} requests`);
    assert.ok((seen[0]?.ejections ?? 0) > 0);
  });

  for (const [how, isListed] of [
    ["is down", true],
    ["is not there", false],
  ] as const) {
    test(`the only server that is up answers 500 again and again, until the other one is back, which ${how}`, async () => {
      await using servers = await startServerProcesses(2);
      const [ill, other] = servers as unknown as [ServerProcess, ServerProcess];
      await ill.behave({ fault: "error" });
      await using balancing = await balance(servers);
      using client = openClient(balancing.url);
      await other.kill();
      // As an agent does while it starts a server anew.
      if (!isListed) balancing.route([ill], { missing: 1 });
      else await until(async () => (await balancing.status()).servers[1]?.standing === "down");
      const asked = ask(client, prompt(1));
      await until(async () => ((await balancing.status()).servers[0]?.statuses[500] ?? 0) >= 4);
      await other.start();
      balancing.route(servers);
      await asked;
    });
  }

  for (const fault of ["truncate", "cut", "reset", "reset-late"] as const) {
    test(`one of four servers is at fault (${fault})`, async () => {
      await using servers = await startServerProcesses(4);
      await behaveAll(servers, { delayMs: 10 });
      await first(servers).behave({ fault });
      await using balancing = await balance(servers);
      using client = openClient(balancing.url);
      await load(client, { requests: 600, width: 50, bytes: 20_000 });
      const { servers: seen, retries } = await balancing.status();
      assert.ok(retries > 0);
      assert.equal(seen[0]?.answered, 0);
    });
  }

  const downMs = isLong ? 20_000 : 1_500;
  test(`all servers are down for ${downMs / 1_000} s`, async () => {
    await using servers = await startServerProcesses(3);
    await behaveAll(servers, { hold: true });
    await using balancing = await balance(servers);
    using client = openClient(balancing.url);
    const answered = Array.from({ length: 60 }, (_, n) => ask(client, prompt(n)));
    await untilInFlight(balancing, 60);
    await Promise.all(servers.map((server) => server.kill()));
    const from = performance.now();
    const late = Array.from({ length: 20 }, (_, n) => ask(client, prompt(`late ${n}`)));
    await until(() => performance.now() - from > downMs);
    assert.equal((await balancing.status()).waiting, 80);
    await Promise.all(servers.map((server) => server.start()));
    await Promise.all([...answered, ...late]);
    const { servers: seen, refused } = await balancing.status();
    assert.equal(refused, 0);
    await until(async () =>
      (await balancing.status()).servers.every(({ standing }) => standing === "ready"),
    );
    assert.deepEqual(
      seen.map(({ deaths }) => deaths),
      [1, 1, 1],
    );
  });

  test("servers leave the list and come back at other ports", async () => {
    await using servers = await startServerProcesses(4);
    await behaveAll(servers, { delayMs: 30 });
    const [a, b, c, d] = servers as unknown as [
      ServerProcess,
      ServerProcess,
      ServerProcess,
      ServerProcess,
    ];
    await using balancing = await balance([a, b]);
    using client = openClient(balancing.url);
    const loaded = load(client, { requests: 600, width: 40 });
    const answered = async () => (await balancing.status()).answered;
    for (const [threshold, list] of [
      [100, [c, d]],
      [200, []],
      [200, [a, c]],
      [400, [b]],
    ] as const) {
      await until(async () => (await answered()) >= threshold);
      balancing.route(list);
    }
    await loaded;
    assert.equal(await answered(), 600);
  });
});

describe("a request that fails wherever it is asked", () => {
  test("is answered with the servers' 500 after three tries, and none of them is to blame", async () => {
    await using servers = await startServerProcesses(4);
    await using balancing = await balance(servers);
    using client = openClient(balancing.url);
    const poison = JSON.stringify({ prompt: "fail-always" });
    const answers = await Promise.all(
      Array.from({ length: 30 }, () => client.post("/v1/completions", poison)),
    );
    for (const { status, body, fields } of answers) {
      assert.deepEqual([status, body], [500, '{"error":"out of memory"}']);
      assert.match(String(fields["x-lb"]), /attempts=3/);
    }
    const { servers: seen } = await balancing.status();
    const tries = seen.reduce((sum, { statuses }) => sum + (statuses[500] ?? 0), 0);
    assert.equal(tries, 90);
    assert.deepEqual(
      seen.map(({ standing }) => standing),
      ["ready", "ready", "ready", "ready"],
    );
  });

  test("because it kills them, ends after two deaths, alone, and is known when it comes again", async () => {
    await using servers = await startServerProcesses(4);
    await behaveAll(servers, { hold: true });
    await using balancing = await balance(servers);
    using client = openClient(balancing.url);
    const poison = JSON.stringify({ prompt: "kill-the-server" });
    const bystanders = load(client, { requests: 300, width: 60 });
    const asked = client.post("/v1/completions", poison);
    await untilInFlight(balancing, 61);
    await behaveAll(servers, { delayMs: 50 });
    const { status, body } = await asked;
    assert.deepEqual([status, /2 servers died under it/.test(body)], [502, true]);
    await bystanders;
    const dead = () => servers.filter(({ isRunning }) => !isRunning).length;
    assert.equal(dead(), 2);
    const again = await client.post("/v1/completions", poison);
    assert.deepEqual([again.status, again.body.includes("before")], [502, true]);
    await ask(client, prompt("a last one"));
    assert.equal(dead(), 2);
  });

  test("is not found guilty of two deaths when servers die without it, too", async () => {
    await using servers = await startServerProcesses(4);
    await behaveAll(servers, { hold: true });
    // Long enough that the third death comes within it, however slow the machine.
    await using balancing = await balance(servers, { limits: { verdictMs: 20_000 } });
    using client = openClient(balancing.url);
    const answered = ask(client, prompt("innocent"));
    for (let deaths = 1; deaths <= 2; deaths++) {
      const at = await until(async () => {
        const { servers: seen } = await balancing.status();
        return seen.find(({ in_flight }) => in_flight === 1);
      });
      await servers[Number(at.id)]?.kill();
      await until(async () => {
        const { servers: seen } = await balancing.status();
        return seen.filter(({ standing }) => standing === "down").length === deaths;
      });
    }
    await until(async () => (await balancing.log()).includes("suspected"));
    const [one, other] = servers.filter(({ isRunning }) => isRunning) as [
      ServerProcess,
      ServerProcess,
    ];
    await other.behave({});
    await one.kill();
    await answered;
  });
});

describe("clients that go", () => {
  test("are noticed by the server of each of them", async () => {
    await using upstream = await startUpstream(() => {});
    await using balancing = await balance([upstream]);
    const clients = Array.from({ length: 20 }, () => openClient(balancing.url));
    const gone = new AbortController();
    const asked = clients.map((client) =>
      assert.rejects(client.post("/v1/completions", "{}", { signal: gone.signal })),
    );
    await until(() => upstream.asked.length === 20);
    gone.abort();
    await Promise.all(asked);
    await until(() => upstream.asked.every((one) => one.gone), { timeoutMs: 5_000 });
    await untilInFlight(balancing, 0);
    assert.equal((await balancing.status()).abandoned, 20);
    for (const client of clients) client[Symbol.dispose]();
  });
});

describe("requests are spread", () => {
  test("evenly: 400 at once over four servers are 100 each", async () => {
    const upstreams = await Promise.all(Array.from({ length: 4 }, () => startUpstream(() => {})));
    await using balancing = await balance(upstreams);
    using client = openClient(balancing.url);
    const gone = new AbortController();
    const asked = Array.from({ length: 400 }, () =>
      assert.rejects(client.post("/v1/completions", "{}", { signal: gone.signal })),
    );
    await untilInFlight(balancing, 400);
    const { servers } = await balancing.status();
    assert.deepEqual(
      servers.map(({ in_flight }) => in_flight),
      [100, 100, 100, 100],
    );
    gone.abort();
    await Promise.all(asked);
    for (const upstream of upstreams) await upstream[Symbol.asyncDispose]();
  });

  test("by speed: a slow server gets no more than it has room for", async () => {
    await using servers = await startServerProcesses(4);
    await first(servers).behave({ hold: true });
    await using balancing = await balance(servers);
    using client = openClient(balancing.url);
    const loaded = load(client, { requests: 1_000, width: 80 });
    await until(async () => (await balancing.status()).answered >= 900);
    const { servers: seen } = await balancing.status();
    // As many as each of the others would have had at the same time: far less than a quarter of all.
    const slow = seen[0]?.in_flight ?? 0;
    assert.ok(slow > 0 && slow <= 25, `${slow} requests`);
    await first(servers).behave({});
    await loaded;
  });

  test("with no more than `max_in_flight` at a server; the rest wait in their order", async () => {
    const order: string[] = [];
    await using upstream = await startUpstream(({ response, body }) => {
      order.push(body);
      setTimeout(() => answer(response, 200), 5);
    });
    await using balancing = await balance([{ id: "a", url: upstream.url, max_in_flight: 2 }]);
    using client = openClient(balancing.url);
    let most = 0;
    const watching = setInterval(() => {
      most = Math.max(most, upstream.asked.filter(({ gone }) => !gone).length);
    }, 1);
    const answers: Promise<unknown>[] = [];
    for (let n = 0; n < 30; n++) {
      answers.push(client.post("/v1/completions", String(n)));
      // One after the other, so that there is an order.
      await until(async () => (await balancing.status()).in_flight + order.length >= n + 1);
    }
    await Promise.all(answers);
    clearInterval(watching);
    assert.deepEqual(
      order,
      Array.from({ length: 30 }, (_, n) => String(n)),
    );
    assert.ok(most <= 2, `${most} at once`);
  });

  test("with affinity, by prompt: repeated ones go to the server that knows them", async () => {
    await using servers = await startServerProcesses(4);
    await behaveAll(servers, { delayMs: 15 });
    await using balancing = await balance(servers, { affinity: "prompt" });
    using client = openClient(balancing.url);
    const homes = new Map<string, Map<string, number>>();
    let most = 0;
    const watch = async () => {
      const { servers: seen } = await balancing.status();
      const loads = seen.map(({ in_flight }) => in_flight);
      most = Math.max(most, Math.max(...loads) - 1.25 * Math.min(...loads));
    };
    const prompts = Array.from({ length: 64 }, (_, n) => prompt(`question ${n}`, 3_000));
    for (let round = 0; round < 8; round++) {
      const asked = prompts.map(async (text) => {
        const body = JSON.stringify({ prompt: text });
        const { status, fields } = await client.post("/v1/completions", body);
        assert.equal(status, 200);
        const server = /server=(\d)/.exec(String(fields["x-lb"]))?.[1] ?? "";
        const home = homes.get(text) ?? new Map<string, number>();
        homes.set(text, home.set(server, (home.get(server) ?? 0) + 1));
      });
      await Promise.all([...asked, watch()]);
    }
    const atHome = [...homes.values()].reduce((sum, home) => sum + Math.max(...home.values()), 0);
    assert.ok(atHome / (64 * 8) >= 0.8, `${atHome} of ${64 * 8} at home`);
    assert.ok(most <= 2, `${most} more than 1.25 times the least`);
  });
});

describe("an answer of 4xx", () => {
  test("passes as it is, is never repeated, and 1000 of them put nobody out", async () => {
    const text = '{"error":{"message":"prompt too long: ü"}}\n';
    const upstreams = await Promise.all(
      Array.from({ length: 4 }, () =>
        startUpstream(({ response }) => {
          response.writeHead(400, "Too Long", [
            "Content-Type",
            "text/x",
            "X-Why",
            "a",
            "x-why",
            "b",
          ]);
          response.end(text);
        }),
      ),
    );
    await using balancing = await balance(upstreams);
    using client = openClient(balancing.url);
    const post = async () => await client.post("/v1/completions", "{}");
    for (let round = 0; round < 10; round++) {
      for (const { status, fields, body } of await Promise.all(Array.from({ length: 100 }, post))) {
        assert.deepEqual([status, body], [400, text]);
        assert.deepEqual([fields["content-type"], fields["x-why"]], ["text/x", "a, b"]);
      }
    }
    const asked = upstreams.reduce((sum, upstream) => sum + upstream.asked.length, 0);
    assert.equal(asked, 1_000);
    const { servers, retries } = await balancing.status();
    assert.equal(retries, 0);
    assert.ok(servers.every(({ standing, ejections }) => standing === "ready" && ejections === 0));
    for (const upstream of upstreams) await upstream[Symbol.asyncDispose]();
  });
});
