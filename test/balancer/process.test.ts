import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { Agent, request } from "node:http";
import type { Socket } from "node:net";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { after, describe, test } from "node:test";
import { type BalancerOrder, BalancerReport, sumCounts } from "../../src/balancer/control.ts";
import { type ChildGroup, startGroup } from "../../src/base/spawn.ts";
import { root } from "../support/require.ts";
import { temporaryDirectory } from "../support/temporary.ts";
import { until } from "../support/until.ts";
import { type Asked, answer, completion, startUpstream } from "../support/upstream.ts";

const token = "secret";

/** A balancer as a process: everything here speaks to it by its lines and by HTTP alone. */
interface Balancer extends AsyncDisposable {
  readonly port: number;
  readonly process: ChildGroup;
  readonly reports: BalancerReport[];
  order(order: BalancerOrder): void;
  /** The servers that are up, by URL. */
  route(
    urls: readonly string[],
    options?: { expected?: boolean; attemptTimeoutS?: number; identity?: string },
  ): void;
  /** The next report of this type that is not there yet. */
  next<T extends BalancerReport["type"]>(
    type: T,
    cause: () => void,
  ): Promise<Extract<BalancerReport, { type: T }>>;
  url(account: string, path?: string): string;
}

async function startBalancer(
  options: { ports?: number[]; attemptTimeoutS?: number } = {},
): Promise<Balancer> {
  const child = await startGroup(process.execPath, [join(root, "src/agent/main.ts"), "balancer"], {
    env: { PATH: process.env["PATH"] },
    stdin: "pipe",
    stdout: "pipe",
    stderr: 2,
  });
  const reports: BalancerReport[] = [];
  assert(child.stdout !== undefined);
  const lines = createInterface({ input: child.stdout });
  lines.on("line", (line) => reports.push(BalancerReport.parse(JSON.parse(line))));
  const order = (message: BalancerOrder): void => {
    child.stdin?.write(`${JSON.stringify(message)}\n`);
  };
  const next: Balancer["next"] = async (type, cause) => {
    const from = reports.length;
    cause();
    return await until(
      () =>
        reports.slice(from).find((report) => report.type === type) as
          | Extract<BalancerReport, { type: typeof type }>
          | undefined,
    );
  };
  const { ports = [0], attemptTimeoutS = 10 } = options;
  const listen = { type: "listen", ports, token, attempt_timeout_s: attemptTimeoutS } as const;
  const { port } = await next("listening", () => order(listen));
  return {
    port,
    process: child,
    reports,
    order,
    route: (urls, { expected = true, attemptTimeoutS: attempt_timeout_s, identity } = {}) =>
      order({
        type: "servers",
        servers: urls.map((url, n) => ({ id: String(n), url })),
        expected,
        ...(attempt_timeout_s !== undefined && { attempt_timeout_s }),
        ...(identity !== undefined && { identity }),
      }),
    next,
    url: (account, path = "/v1/completions") =>
      `http://127.0.0.1:${port}/eh/${token}/${account}/0${path}`,
    [Symbol.asyncDispose]: async () => {
      await child.stop({ graceMs: 2_000 });
    },
  };
}

async function post(
  url: string,
  signal?: AbortSignal,
  prompt = "hello",
): Promise<{ status: number; body: string }> {
  const response = await fetch(url, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ prompt }),
    ...(signal !== undefined && { signal }),
  });
  return { status: response.status, body: await response.text() };
}

/** Waits until so many requests wait for a server, as the balancer itself tells. */
async function untilWaiting(balancer: Balancer, waiting: number): Promise<void> {
  await until(async () => {
    const totals = await balancer.next("totals", () => balancer.order({ type: "totals" }));
    return totals.waiting === waiting;
  });
}

// One for all: most tests are not about its start or end.
let shared: Balancer | undefined;
after(() => shared?.[Symbol.asyncDispose]());

/** The balancer, as it is before any server is up. */
async function serving(): Promise<Balancer> {
  shared ??= await startBalancer();
  shared.route([], { attemptTimeoutS: 10 });
  return shared;
}

describe("a request", () => {
  test("reaches a server as it is, but for the prefix and what belongs to one connection", async () => {
    await using upstream = await startUpstream();
    const balancer = await serving();
    balancer.route([upstream.url]);
    const response = await fetch(balancer.url("a", "/v1/completions?beam=1"), {
      method: "POST",
      headers: { authorization: "Bearer key", "content-type": "application/json" },
      body: '{"prompt":"ü"}',
    });
    assert.equal(response.status, 200);
    assert.deepEqual(await response.json(), completion);
    const [asked] = upstream.asked;
    assert.ok(asked !== undefined);
    assert.deepEqual(
      [asked.request.method, asked.request.url, asked.body],
      ["POST", "/v1/completions?beam=1", '{"prompt":"ü"}'],
    );
    assert.equal(asked.request.headers.authorization, "Bearer key");
    assert.equal(asked.request.headers.host, upstream.url.slice("http://".length));
  });

  test("waits while no server is up, and is answered by the first that comes", async () => {
    await using upstream = await startUpstream();
    const balancer = await serving();
    const answers = Promise.all([post(balancer.url("a")), post(balancer.url("b"))]);
    await untilWaiting(balancer, 2);
    balancer.route([upstream.url]);
    assert.deepEqual(
      (await answers).map(({ status }) => status),
      [200, 200],
    );
  });

  test("waits longer than one attempt may take: waiting does not count", async () => {
    await using upstream = await startUpstream();
    const balancer = await serving();
    balancer.route([], { attemptTimeoutS: 0.2 });
    const answered = post(balancer.url("a"));
    await untilWaiting(balancer, 1);
    // Another process waits: its time can't be moved.
    const from = performance.now();
    await until(() => performance.now() - from > 500);
    balancer.route([upstream.url]);
    assert.equal((await answered).status, 200);
    assert.equal(upstream.asked.length, 1);
  });

  test("is refused at once when no server is up and none is expected", async () => {
    const balancer = await serving();
    balancer.route([], { expected: false });
    const { status, body } = await post(balancer.url("a"));
    assert.deepEqual([status, body.includes("No server is up")], [503, true]);
  });

  test("that loses its server goes to another one", async () => {
    await using dying = await startUpstream(({ request: { socket } }) => socket.destroy());
    await using upstream = await startUpstream();
    const balancer = await serving();
    balancer.route([dying.url, upstream.url]);
    const answers = await Promise.all(Array.from({ length: 6 }, () => post(balancer.url("a"))));
    assert.deepEqual(new Set(answers.map(({ status }) => status)), new Set([200]));
    assert.ok(dying.asked.length > 0);
  });

  test("that loses its only server waits for its return, however often that happens", async () => {
    await using upstream = await startUpstream(({ request: { socket }, response }, n) => {
      if (n <= 3) socket.destroy();
      else answer(response, 200);
    });
    const balancer = await serving();
    balancer.route([upstream.url]);
    const { status } = await post(balancer.url("a"));
    assert.deepEqual([status, upstream.asked.length], [200, 4]);
  });

  test("is sent again when nobody listens any more, until there is a server", async () => {
    const gone = await startUpstream();
    await gone[Symbol.asyncDispose]();
    await using upstream = await startUpstream();
    const balancer = await serving();
    balancer.route([gone.url]);
    const { length } = balancer.reports;
    const answered = post(balancer.url("a"));
    const retries = (report: BalancerReport) => (report.type === "totals" ? report.retries : 0);
    const before = Math.max(...balancer.reports.map(retries));
    await until(() => balancer.reports.slice(length).some((report) => retries(report) > before));
    balancer.route([upstream.url]);
    assert.equal((await answered).status, 200);
  });

  for (const [what, cut] of Object.entries({
    "whose JSON ends in the middle": ({ response }: Asked) => {
      response.writeHead(200, { "content-type": "application/json" });
      response.end(JSON.stringify(completion).slice(0, 40));
    },
    "that is shorter than its length says": ({ response }: Asked) => {
      response.writeHead(200, { "content-type": "application/json", "content-length": 5_000 });
      response.write("{}");
      (response.socket as Socket).end();
    },
    "whose chunks do not end": ({ response }: Asked) => {
      response.writeHead(200, { "content-type": "application/json" });
      response.write("{}");
      setImmediate(() => response.socket?.destroy());
    },
  })) {
    test(`that gets an answer ${what} is sent again`, async () => {
      await using upstream = await startUpstream((asked, n) => {
        if (n === 1) cut(asked);
        else answer(asked.response, 200);
      });
      const balancer = await serving();
      balancer.route([upstream.url]);
      const { status, body } = await post(balancer.url("a"));
      assert.deepEqual([status, JSON.parse(body)], [200, completion]);
      assert.equal(upstream.asked.length, 2);
    });
  }

  for (const status of [429, 502, 503, 504]) {
    test(`that is answered with ${status} is sent again until the server has time`, async () => {
      await using upstream = await startUpstream(({ response }, n) =>
        answer(response, n <= 2 ? status : 200),
      );
      const balancer = await serving();
      balancer.route([upstream.url]);
      assert.equal((await post(balancer.url("a"))).status, 200);
      assert.equal(upstream.asked.length, 3);
    });
  }

  test("that is answered with 500 is tried three times, then the answer stands", async () => {
    await using upstream = await startUpstream(({ response }) =>
      answer(response, 500, { error: "CUDA error" }),
    );
    const balancer = await serving();
    balancer.route([upstream.url]);
    const { status, body } = await post(balancer.url("a"));
    assert.deepEqual([status, body], [500, '{"error":"CUDA error"}']);
    assert.equal(upstream.asked.length, 3);
  });

  test("that runs into the time-out of an attempt is tried three times, then refused", async () => {
    await using upstream = await startUpstream(() => {});
    const balancer = await serving();
    balancer.route([upstream.url], { attemptTimeoutS: 0.1 });
    const { status, body } = await post(balancer.url("a"));
    assert.equal(status, 504);
    assert.match(body, /No answer within 0\.1 s, 3 times/);
    assert.equal(upstream.asked.length, 3);
    await until(() => upstream.asked.every(({ gone }) => gone));
  });

  test("is subject to the time-out that came last", async () => {
    await using upstream = await startUpstream(({ response }, n) => {
      if (n > 1) answer(response, 200);
    });
    const balancer = await serving();
    balancer.route([], { attemptTimeoutS: 3_600 });
    balancer.route([upstream.url], { attemptTimeoutS: 0.1 });
    assert.equal((await post(balancer.url("a"))).status, 200);
    assert.equal(upstream.asked.length, 2);
  });

  for (const status of [400, 401, 404, 422]) {
    test(`that is answered with ${status} is not repeated: the answer passes as it is`, async () => {
      await using upstream = await startUpstream(({ response }) => {
        response.writeHead(status, { "content-type": "text/plain", "x-reason": "prompt too long" });
        response.end("no such thing\n");
      });
      const balancer = await serving();
      balancer.route([upstream.url]);
      const response = await fetch(balancer.url("a"), { method: "POST", body: "{}" });
      assert.equal(response.status, status);
      assert.equal(response.headers.get("x-reason"), "prompt too long");
      assert.equal(await response.text(), "no such thing\n");
      assert.equal(upstream.asked.length, 1);
    });
  }

  test("whose client goes is cancelled on its server", async () => {
    await using upstream = await startUpstream(() => {});
    const balancer = await serving();
    balancer.route([upstream.url]);
    const before = await balancer.next("totals", () => balancer.order({ type: "totals" }));
    const gone = new AbortController();
    const answered = post(balancer.url("a"), gone.signal);
    await until(() => upstream.asked.length === 1);
    gone.abort();
    await assert.rejects(answered);
    await until(() => upstream.asked[0]?.gone === true);
    const totals = await balancer.next("totals", () => balancer.order({ type: "totals" }));
    const { answered: answeredAfter, refused, in_flight } = totals;
    assert.deepEqual([in_flight, answeredAfter, refused], [0, before.answered, before.refused]);
  });

  test("whose client goes while it waits never reaches a server", async () => {
    await using upstream = await startUpstream();
    const balancer = await serving();
    const gone = new AbortController();
    const answered = post(balancer.url("a"), gone.signal);
    await untilWaiting(balancer, 1);
    gone.abort();
    await assert.rejects(answered);
    await untilWaiting(balancer, 0);
    balancer.route([upstream.url]);
    assert.equal((await post(balancer.url("b"))).status, 200);
    assert.equal(upstream.asked.length, 1);
  });

  test("without the token is refused, and no server hears of it", async () => {
    await using upstream = await startUpstream();
    const balancer = await serving();
    balancer.route([upstream.url]);
    const { port } = balancer;
    for (const path of [
      "/v1/completions",
      "/eh/other/a/0/v1/completions",
      `/eh/${token}x/a/0/v1/completions`,
      `/eh/${token}`,
      `/x/eh/${token}/a/0/v1/completions`,
    ]) {
      const { status } = await post(`http://127.0.0.1:${port}${path}`);
      assert.equal(status, 403, path);
    }
    assert.equal(upstream.asked.length, 0);
  });

  test("goes where the fewest are in flight", async () => {
    await using busy = await startUpstream(() => {});
    await using upstream = await startUpstream();
    const balancer = await serving();
    balancer.route([busy.url]);
    const done = new AbortController();
    const held = post(balancer.url("a"), done.signal).catch(() => {});
    await until(() => busy.asked.length === 1);
    balancer.route([busy.url, upstream.url]);
    for (let n = 0; n < 5; n++) assert.equal((await post(balancer.url("a"))).status, 200);
    assert.deepEqual([busy.asked.length, upstream.asked.length], [1, 5]);
    done.abort();
    await held;
  });

  test("of many megabytes, and an answer of as many, pass whole", async () => {
    const long = "x".repeat(20 << 20);
    await using upstream = await startUpstream(({ response, body }) => answer(response, 200, body));
    const balancer = await serving();
    balancer.route([upstream.url]);
    const response = await fetch(balancer.url("a"), { method: "POST", body: long });
    assert.equal(JSON.parse(await response.text()), long);
  });
});

describe("the balancer", () => {
  test("counts requests and tokens for each account, once, and for all", async () => {
    await using upstream = await startUpstream(({ response, body }) =>
      answer(response, body.includes("bad") ? 400 : 200),
    );
    await using balancer = await startBalancer();
    balancer.route([upstream.url]);
    await Promise.all([
      post(balancer.url("one")),
      post(balancer.url("one")),
      post(balancer.url("two")),
      fetch(balancer.url("two"), { method: "POST", body: "bad" }),
    ]);
    const settle = async (account: string) => {
      const settled = await balancer.next("settled", () =>
        balancer.order({ type: "settle", account }),
      );
      assert.equal(settled.account, account);
      const { answered, refused, prompt_tokens, completion_tokens } = sumCounts(
        Object.values(settled.parts),
      );
      return { answered, refused, prompt_tokens, completion_tokens };
    };
    const [one, two] = [await settle("one"), await settle("two")];
    assert.deepEqual(one, { answered: 2, refused: 0, prompt_tokens: 14, completion_tokens: 6 });
    assert.deepEqual(two, { answered: 1, refused: 1, prompt_tokens: 7, completion_tokens: 3 });
    const none = { answered: 0, refused: 0, prompt_tokens: null, completion_tokens: null };
    assert.deepEqual(await settle("one"), none);
    const totals = await balancer.next("totals", () => balancer.order({ type: "totals" }));
    assert.deepEqual(
      [totals.answered, totals.refused, totals.prompt_tokens, totals.completion_tokens],
      [3, 1, 21, 9],
    );
  });

  test("tells its totals without being asked when they have changed", async () => {
    await using upstream = await startUpstream();
    await using balancer = await startBalancer();
    balancer.route([upstream.url]);
    await post(balancer.url("a"));
    await until(() =>
      balancer.reports.some((report) => report.type === "totals" && report.answered === 1),
    );
  });

  test("answers pings while requests are held", async () => {
    const balancer = await serving();
    const done = new AbortController();
    const held = post(balancer.url("a"), done.signal).catch(() => {});
    await untilWaiting(balancer, 1);
    assert.equal((await balancer.next("pong", () => balancer.order({ type: "ping", n: 5 }))).n, 5);
    done.abort();
    await held;
  });

  test("listens on loopback alone", async () => {
    const balancer = await serving();
    const suffix = `:${balancer.port.toString(16).toUpperCase().padStart(4, "0")}`;
    const tables = await Promise.all(
      ["tcp", "tcp6"].map((name) => readFile(`/proc/net/${name}`, "utf8").catch(() => "")),
    );
    const listening = tables
      .flatMap((table) => table.split("\n").map((line) => line.trim().split(/\s+/)))
      .filter((fields) => fields[1]?.endsWith(suffix) && fields[3] === "0A")
      .map((fields) => fields[1]);
    assert.deepEqual(listening, [`0100007F${suffix}`]);
  });

  test("takes the first of its ports that is free", async () => {
    await using taken = await startUpstream();
    await using balancer = await startBalancer({ ports: [Number(new URL(taken.url).port), 0] });
    assert.notEqual(balancer.port, Number(new URL(taken.url).port));
  });

  test("ends with its stdin, whatever it holds, and on no interrupt", async () => {
    await using upstream = await startUpstream(() => {});
    await using balancer = await startBalancer();
    balancer.route([upstream.url]);
    const held = post(balancer.url("a"));
    const lost = assert.rejects(held);
    await until(() => upstream.asked.length === 1);
    balancer.process.signal("SIGINT");
    assert.equal((await balancer.next("pong", () => balancer.order({ type: "ping", n: 1 }))).n, 1);
    balancer.process.stdin?.end();
    assert.deepEqual(await balancer.process.exited, { code: 0, signal: undefined });
    await lost;
  });

  test("ends with a word when it does not understand an order", async () => {
    await using balancer = await startBalancer();
    await balancer.next("fatal", () => void balancer.process.stdin?.write('{"type":"dance"}\n'));
    assert.deepEqual(await balancer.process.exited, { code: 1, signal: undefined });
  });

  test("serves many requests over one connection", async () => {
    await using upstream = await startUpstream();
    const balancer = await serving();
    balancer.route([upstream.url]);
    const sockets = new Set<Socket>();
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    for (let n = 0; n < 20; n++) {
      await new Promise<void>((resolve, reject) => {
        const asking = request(balancer.url("a"), { method: "POST", agent }, (response) => {
          sockets.add(response.socket);
          response.resume().on("end", resolve);
        });
        asking.on("error", reject).end("{}");
      });
    }
    agent.destroy();
    assert.equal(sockets.size, 1);
    assert.equal(upstream.asked.length, 20);
  });
});

describe("a journal of requests", () => {
  /** Asks so many requests at a time, each of which must be answered as its prompt says. */
  async function askAll(balancer: Balancer, from: number, to: number): Promise<void> {
    let next = from;
    const one = async (): Promise<void> => {
      for (let n = next++; n < to; n = next++) {
        const { status, body } = await post(balancer.url("a"), undefined, `p${n}`);
        assert.deepEqual([status, JSON.parse(body)], [200, { text: `p${n}` }]);
      }
    };
    await Promise.all(Array.from({ length: 8 }, one));
  }

  test("outlives a balancer that is killed: the next evaluation asks no more than what was in flight, its successor all again", async () => {
    await using directory = await temporaryDirectory();
    let holdsFrom = 100;
    await using upstream = await startUpstream(({ response, body }) => {
      const { prompt } = JSON.parse(body) as { prompt: string };
      if (Number(prompt.slice(1)) < holdsFrom) answer(response, 200, { text: prompt });
    });
    const files = ["0", "1", "2"].map((name) => join(directory.path, name));
    const [first, second, third] = files as [string, string, string];
    const about = { type: "journal", account: "a", part: "0", limit_bytes: 1 << 20 } as const;
    const order = { ...about, budget: { name: "unit", limit_bytes: 1 << 20 } };
    {
      await using balancer = await startBalancer();
      balancer.order({ ...order, read: [], own: [], write: first });
      balancer.route([upstream.url], { identity: "servers" });
      await askAll(balancer, 0, 100);
      const inFlight = [100, 101].map((n) => post(balancer.url("a"), undefined, `p${n}`));
      const lost = Promise.allSettled(inFlight);
      await until(() => upstream.asked.length === 102);
      balancer.process.signal("SIGKILL");
      await balancer.process.exited;
      await lost;
    }
    holdsFrom = Number.POSITIVE_INFINITY;
    upstream.asked.length = 0;
    {
      // In the same evaluation.
      await using balancer = await startBalancer();
      balancer.order({ ...order, read: [], own: [first], write: second });
      balancer.route([upstream.url], { identity: "servers" });
      await askAll(balancer, 90, 120);
      assert.equal(upstream.asked.length, 30);
      await balancer.next("journal-closed", () =>
        balancer.order({ type: "close-journal", account: "a" }),
      );
    }
    upstream.asked.length = 0;
    await using balancer = await startBalancer();
    balancer.order({ ...order, read: [first, second], own: [], write: third });
    // Until it is known what the servers are, nobody knows whether these answers are theirs.
    const asking = askAll(balancer, 0, 120);
    const status = () => balancer.next("totals", () => balancer.order({ type: "totals" }));
    await until(async () => (await status()).in_flight === 8);
    balancer.route([upstream.url], { identity: "servers" });
    await asking;
    const lostOnes = upstream.asked.length;
    assert.ok(lostOnes <= 5, `${lostOnes} of 100 were asked again`);
    const settled = await balancer.next("settled", () =>
      balancer.order({ type: "settle", account: "a" }),
    );
    const { replayed, answered } = sumCounts(Object.values(settled.parts));
    assert.deepEqual([replayed, answered], [120 - lostOnes, lostOnes]);
    const off = await balancer.next("journal-off", () =>
      balancer.route([upstream.url], { identity: "others" }),
    );
    assert.deepEqual([off.account, off.part], ["a", "0"]);
  });
});
