import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { request as httpRequest, type IncomingMessage } from "node:http";
import { connect, createServer, type Server as NetServer } from "node:net";
import { join } from "node:path";
import { describe, test } from "node:test";
import { balance, openClient, type TestBalancer } from "../support/balancing.ts";
import { openRaw } from "../support/raw-http.ts";
import { temporaryDirectory } from "../support/temporary.ts";
import { until } from "../support/until.ts";
import { type Asked, answer, startUpstream, type Upstream } from "../support/upstream.ts";

const mib = 1 << 20;

/** Begins a request; its answer's body is left to the test. */
async function begin(
  balancing: TestBalancer,
  body: Buffer | string = "{}",
  signal?: AbortSignal,
): Promise<IncomingMessage> {
  return await new Promise((resolve, reject) => {
    const options = { method: "POST", ...(signal !== undefined && { signal }) };
    const asking = httpRequest(`${balancing.url}/v1/completions`, options);
    asking.on("response", resolve);
    asking.on("error", reject);
    asking.end(body);
  });
}

async function drain(incoming: IncomingMessage): Promise<{ digest: string; bytes: number }> {
  const hash = createHash("sha256");
  let bytes = 0;
  for await (const chunk of incoming) {
    hash.update(chunk as Buffer);
    bytes += (chunk as Buffer).length;
  }
  return { digest: hash.digest("hex"), bytes };
}

function digestOf(bytes: Buffer): string {
  return createHash("sha256").update(bytes).digest("hex");
}

/** A server that is told every byte, on plain sockets. */
async function startRawServer(
  serve: (head: string, write: (bytes: string | Buffer) => boolean, close: () => void) => void,
): Promise<{ readonly url: string } & AsyncDisposable> {
  const server: NetServer = createServer((socket) => {
    let text = "";
    let served = false;
    socket.on("error", () => {});
    socket.on("data", (chunk) => {
      text += chunk.toString("latin1");
      if (served || !text.includes("\r\n\r\n")) return;
      if (text.startsWith("GET /health")) {
        socket.end("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        return;
      }
      served = true;
      serve(
        text,
        (bytes) => socket.write(bytes),
        () => socket.destroy(),
      );
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  if (address === null || typeof address === "string") throw new TypeError("no port");
  return {
    url: `http://127.0.0.1:${address.port}`,
    [Symbol.asyncDispose]: async () => {
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

describe("a stream of events", () => {
  test("passes each event as it comes", async () => {
    let send: ((event: string) => void) | undefined;
    await using upstream = await startUpstream(({ response }) => {
      response.writeHead(200, { "content-type": "text/event-stream; charset=utf-8" });
      response.write("data: first\n\n");
      send = (event) => {
        if (event === "") response.end();
        else response.write(event);
      };
    });
    await using balancing = await balance([upstream]);
    const incoming = await begin(balancing);
    let received = "";
    incoming.on("data", (chunk: Buffer) => {
      received += chunk.toString();
    });
    const ended = new Promise((resolve) => incoming.on("end", resolve));
    // The next one is not sent before this one is here: nothing can wait for more.
    for (let n = 0; n < 10; n++) {
      send?.(`data: {"n":${n}}\n\n`);
      await until(() => received.endsWith(`{"n":${n}}\n\n`));
    }
    send?.("");
    await ended;
    assert.equal(incoming.complete, true);
    const { answered, prompt_tokens } = await balancing.status();
    assert.deepEqual([answered, prompt_tokens], [1, null]);
  });

  test("whose server breaks off ends as an error, not as an end", async () => {
    await using upstream = await startUpstream(({ response }) => {
      response.writeHead(200, { "content-type": "text/event-stream" });
      response.write("data: 1\n\n", () => response.socket?.destroy());
    });
    await using balancing = await balance([upstream]);
    await assert.rejects(drain(await begin(balancing)));
    assert.equal(upstream.asked.length, 1);
    await until(async () => (await balancing.status()).in_flight === 0);
  });

  test("tells the counts of tokens that come with its last event", async () => {
    await using upstream = await startUpstream(({ response }) => {
      response.writeHead(200, { "content-type": "text/event-stream" });
      response.write("data: {}\n\n");
      response.end('data: {"usage":{"prompt_tokens":5,"completion_tokens":2}}\n\ndata: [DONE]\n\n');
    });
    await using balancing = await balance([upstream]);
    await drain(await begin(balancing));
    const { prompt_tokens, completion_tokens } = await balancing.status();
    assert.deepEqual([prompt_tokens, completion_tokens], [5, 2]);
  });

  test("whose client goes before its first event is cancelled at its server", async () => {
    await using upstream = await startUpstream(({ response }) => {
      response.writeHead(200, { "content-type": "text/event-stream" });
      response.flushHeaders();
    });
    await using balancing = await balance([upstream]);
    const gone = new AbortController();
    const asking = assert.rejects(begin(balancing, "{}", gone.signal));
    await until(() => upstream.asked.length === 1);
    gone.abort();
    await asking;
    await until(() => upstream.asked[0]?.gone === true);
  });

  test("whose client goes in its middle is cancelled at its server with the next event", async () => {
    await using upstream = await startUpstream(({ response }) => {
      response.writeHead(200, { "content-type": "text/event-stream" });
      response.write("data: 0\n\n");
    });
    await using balancing = await balance([upstream]);
    const incoming = await begin(balancing);
    incoming.on("error", () => {});
    incoming.destroy();
    const { response } = upstream.asked[0] as Asked;
    await until(() => {
      response.write("data: 1\n\n");
      return upstream.asked[0]?.gone === true;
    });
  });

  test("that breaks off before its first event is asked for elsewhere", async () => {
    await using upstream = await startUpstream(({ response }, n) => {
      response.writeHead(200, { "content-type": "text/event-stream" });
      response.flushHeaders();
      if (n === 1) response.socket?.destroy();
      else response.end("data: 1\n\n");
    });
    await using balancing = await balance([upstream]);
    const incoming = await begin(balancing);
    assert.equal((await drain(incoming)).digest, digestOf(Buffer.from("data: 1\n\n")));
  });
});

describe("large bodies pass whole:", () => {
  const large = randomBytes(20 * mib);

  for (const framing of ["with a length", "in chunks"] as const) {
    test(`a request ${framing}`, async () => {
      let seen = { digest: "", bytes: 0 };
      const http = await import("node:http");
      const server = http.createServer(async (request, response) => {
        if (request.url !== "/health") seen = await drain(request);
        answer(response, 200);
      });
      await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
      const address = server.address();
      if (address === null || typeof address === "string") throw new TypeError("no port");
      await using balancing = await balance([`http://127.0.0.1:${address.port}`]);
      const status = await new Promise((resolve, reject) => {
        const headers = framing === "with a length" ? { "content-length": large.length } : {};
        const asking = httpRequest(`${balancing.url}/x`, { method: "POST", headers });
        asking.on("response", (response) => resolve(response.resume().statusCode));
        asking.on("error", reject);
        for (let at = 0; at < large.length; at += mib) asking.write(large.subarray(at, at + mib));
        asking.end();
      });
      assert.deepEqual([status, seen], [200, { digest: digestOf(large), bytes: large.length }]);
      server.close();
      server.closeAllConnections();
      assert.ok((await balancing.status()).held_bytes_peak <= 9 * mib);
    });

    test(`an answer ${framing}`, async () => {
      await using upstream = await startUpstream(({ response }) => {
        if (framing === "with a length")
          response.writeHead(200, { "content-length": large.length });
        for (let at = 0; at < large.length; at += mib) response.write(large.subarray(at, at + mib));
        response.end();
      });
      await using balancing = await balance([upstream]);
      const seen = await drain(await begin(balancing));
      assert.deepEqual(seen, { digest: digestOf(large), bytes: large.length });
    });
  }

  test("many of all sizes at once, and none of them gets bytes of another", async () => {
    await using upstream = await startUpstream(({ response, body }) => {
      const { n, bytes } = JSON.parse(body) as { n: number; bytes: number };
      const piece = Buffer.alloc(bytes, `${n}.`);
      response.writeHead(200, n % 2 === 0 ? { "content-length": bytes } : {});
      for (let at = 0; at < bytes; at += 50_000) response.write(piece.subarray(at, at + 50_000));
      response.end();
    });
    await using balancing = await balance([upstream]);
    using client = openClient(balancing.url);
    await Promise.all(
      Array.from({ length: 200 }, async (_, n) => {
        const bytes = [10, 3_000, 70_000, 250_000, 1_000_000][n % 5] as number;
        const { body } = await client.post("/x", JSON.stringify({ n, bytes }));
        assert.ok(body === Buffer.alloc(bytes, `${n}.`).toString(), `answer ${n}`);
      }),
    );
    const { held_bytes } = await balancing.status();
    assert.equal(held_bytes, 0);
  });
});

describe("back-pressure reaches", () => {
  test("the server when the client does not read", async () => {
    let written = 0;
    let isFull = false;
    await using upstream = await startUpstream(({ response }) => {
      response.writeHead(200, { "content-length": 400 * mib });
      const chunk = Buffer.alloc(mib);
      const more = (): void => {
        isFull = false;
        do written += 1;
        while (response.write(chunk) && written < 400);
        isFull = true;
        if (written < 400) response.once("drain", more);
      };
      more();
    });
    await using balancing = await balance([upstream]);
    using client = await openRaw(balancing.url);
    client.socket.pause();
    client.say("POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}");
    let before = -1;
    await until(() => {
      const stands = isFull && written === before;
      before = written;
      return stands && written > 0;
    });
    assert.ok(written < 100, `${written} MiB`);
  });

  test("the client when the server does not read", async () => {
    const server = createServer((socket) => socket.on("error", () => {}).pause());
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const address = server.address();
    if (address === null || typeof address === "string") throw new TypeError("no port");
    await using balancing = await balance([`http://127.0.0.1:${address.port}`]);
    const { port } = new URL(balancing.url);
    const socket = connect(Number(port), "127.0.0.1");
    socket.on("error", () => {});
    socket.write(`POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: ${400 * mib}\r\n\r\n`);
    let taken = 0;
    const chunk = Buffer.alloc(mib);
    const more = (): void => {
      if (taken < 400) socket.write(chunk, () => more());
      taken += 1;
    };
    more();
    let before = -1;
    let still = 0;
    await until(() => {
      still = taken === before ? still + 1 : 0;
      before = taken;
      return still > 50;
    });
    assert.ok(taken < 100, `${taken} MiB`);
    socket.destroy();
    await balancing[Symbol.asyncDispose]();
    server.close();
  });
});

describe("a request that is too large", () => {
  const limits = { bodyBytes: mib };

  test("is refused at once when it says so", async () => {
    await using upstream = await startUpstream();
    await using balancing = await balance([upstream], { limits });
    using client = await openRaw(balancing.url);
    client.say(`POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: ${mib + 1}\r\n\r\nx`);
    assert.match(await client.hear(/\}\}/), /^HTTP\/1\.1 413 /);
    assert.equal(upstream.asked.length, 0);
  });

  test("is refused when it gets there, and its server hears no more of it", async () => {
    await using upstream = await startUpstream();
    await using balancing = await balance([upstream], { limits: { ...limits, holdBytes: 1_000 } });
    using client = await openRaw(balancing.url);
    client.say("POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
    for (let n = 0; n <= 16; n++) client.say(`10000\r\n${"x".repeat(1 << 16)}\r\n`);
    assert.match(await client.hear(/\}\}/), /^HTTP\/1\.1 413 /);
    assert.equal(upstream.asked.length, 0);
    await until(async () => (await balancing.status()).servers[0]?.in_flight === 0);
  });
});

describe("the bytes that are held", () => {
  test("are within a budget: new large requests wait for room", async () => {
    await using upstream = await startUpstream(({ response, body }) =>
      answer(response, 200, body.length),
    );
    await using balancing = await balance([upstream], { limits: { heldBytes: mib } });
    using client = openClient(balancing.url);
    const body = "x".repeat(400_000);
    const answers = await Promise.all(Array.from({ length: 12 }, () => client.post("/x", body)));
    assert.ok(answers.every(({ body: length }) => length === "400000"));
    const { held_bytes, held_bytes_peak } = await balancing.status();
    assert.equal(held_bytes, 0);
    assert.ok(held_bytes_peak <= mib && held_bytes_peak >= 800_000, `${held_bytes_peak}`);
  });

  test("are within a budget: answers that find no room are streamed", async () => {
    const body = "y".repeat(300_000);
    await using upstream = await startUpstream(({ response }) => response.end(body));
    await using balancing = await balance([upstream], { limits: { heldBytes: 500_000 } });
    using client = openClient(balancing.url);
    const answers = await Promise.all(Array.from({ length: 12 }, () => client.post("/x", "{}")));
    assert.ok(answers.every((one) => one.body === body));
    const { held_bytes, held_bytes_peak } = await balancing.status();
    assert.equal(held_bytes, 0);
    assert.ok(held_bytes_peak <= 500_000);
  });

  test("are given back by clients that go while they wait for room", async () => {
    await using upstream = await startUpstream(() => {});
    await using balancing = await balance([upstream], { limits: { heldBytes: 500_000 } });
    const gone = new AbortController();
    const clients = Array.from({ length: 3 }, () => openClient(balancing.url));
    const asked = clients.map((client) =>
      assert.rejects(client.post("/x", "x".repeat(400_000), { signal: gone.signal })),
    );
    await until(() => upstream.asked.length === 1);
    gone.abort();
    await Promise.all(asked);
    await until(async () => (await balancing.status()).held_bytes === 0);
    for (const client of clients) client[Symbol.dispose]();
  });
});

describe("what can't be sent again", () => {
  const limits = { holdBytes: 1_000 };

  async function post(balancing: TestBalancer, bytes: number): Promise<number | undefined> {
    const incoming = await begin(balancing, Buffer.alloc(bytes));
    return incoming.resume().statusCode;
  }

  test("is a large request that is lost on its way: the client is told", async () => {
    await using server = await startRawServer((_head, _write, close) => setTimeout(close, 50));
    await using balancing = await balance([server], { limits });
    assert.equal(await post(balancing, 500_000), 502);
  });

  test("is none that no server has accepted", async () => {
    const gone: Upstream = await startUpstream();
    await using upstream = await startUpstream(({ response, body }) =>
      answer(response, 200, body.length),
    );
    // So seldom that the requests are the first to find out.
    const seldom = { checkEveryMs: 60_000, recheckEveryMs: 60_000 };
    await using balancing = await balance([gone], { limits: { ...limits, ...seldom } });
    assert.equal(await post(balancing, 10), 200);
    await gone[Symbol.asyncDispose]();
    balancing.route([gone, upstream]);
    for (let n = 0; n < 3; n++) assert.equal(await post(balancing, 500_000), 200);
    assert.deepEqual((await balancing.status()).retries_by_reason, { unreachable: 1 });
  });

  test("is a request that comes too slowly when its answer has begun: that is cut", async () => {
    await using server = await startRawServer((_head, write) => {
      write("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n");
    });
    const slow = { ...limits, bodyMs: 300, bodyBytesPerS: 1_000_000 };
    await using balancing = await balance([server], { limits: slow });
    using client = await openRaw(balancing.url);
    client.say("POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 500000\r\n\r\n");
    client.say("x".repeat(2_000));
    await client.hear(/data: 1/);
    const heard = await client.hearAll();
    assert.doesNotMatch(heard, /408|balancer/);
    assert.doesNotMatch(heard, /\r\n0\r\n/);
    await until(async () => (await balancing.status()).in_flight === 0);
  });

  test("is an answer that has begun: the client sees that it is not complete", async () => {
    await using server = await startRawServer((_head, write, close) => {
      write("HTTP/1.1 200 OK\r\nContent-Length: 500000\r\n\r\n");
      write(Buffer.alloc(100_000));
      setTimeout(close, 50);
    });
    await using balancing = await balance([server], { limits });
    await assert.rejects(drain(await begin(balancing)));
  });
});

describe("other methods", () => {
  test("pass, with and without bodies", async () => {
    await using upstream = await startUpstream(({ request, response }) => {
      if (request.method === "DELETE") response.writeHead(204).end();
      else if (request.method === "HEAD") response.writeHead(200, { "x-model": "m" }).end();
      else answer(response, 200, { method: request.method });
    });
    await using balancing = await balance([upstream]);
    const ask = async (method: string) => await fetch(`${balancing.url}/v1/models`, { method });
    assert.deepEqual(await (await ask("GET")).json(), { method: "GET" });
    const deleted = await ask("DELETE");
    assert.deepEqual([deleted.status, await deleted.text()], [204, ""]);
    const head = await ask("HEAD");
    assert.deepEqual([head.status, head.headers.get("x-model")], [200, "m"]);
  });

  test("HEAD gets no body of our own pages either, and the connection goes on", async () => {
    await using balancing = await balance([]);
    using client = await openRaw(balancing.url);
    client.say("HEAD /lb/health HTTP/1.1\r\nHost: x\r\n\r\n");
    await client.hear(/^HTTP\/1\.1 200 [\s\S]*\r\n\r\n$/);
    client.say("GET /lb/health HTTP/1.1\r\nHost: x\r\n\r\n");
    await client.hear(/\r\n\r\nHTTP\/1\.1 200 [\s\S]*"no-server"/);
  });
});

describe("a journal of large answers", () => {
  test("keeps them as they were, though their clients have them before, and holds none for longer than it takes", async () => {
    await using directory = await temporaryDirectory();
    const answerTo = (prompt: string) => `{"text":"${prompt.repeat(50_000)}"}`;
    await using upstream = await startUpstream(({ response, body }) => {
      response.setHeader("content-type", "application/json");
      response.end(answerTo(body));
    });
    const prompts = Array.from({ length: 20 }, (_, n) => `p${n}.`);
    const ask = async (read: readonly string[], write: string): Promise<number> => {
      await using balancing = await balance([]);
      balancing.balancer.journals.open({
        account: "",
        part: "",
        read,
        own: [],
        write,
        limitBytes: 64 * mib,
        budget: { name: "unit", limitBytes: 64 * mib },
        onOff: (reason) => assert.fail(reason),
      });
      balancing.balancer.setServers([{ id: "0", url: upstream.url }], {
        waitMs: 60_000,
        identity: "servers",
      });
      using client = openClient(balancing.url);
      const before = upstream.asked.length;
      const ends = prompts.map(async (prompt) => {
        assert.equal((await client.post("/v1/completions", prompt)).body, answerTo(prompt));
      });
      await Promise.all(ends);
      await balancing.balancer.journals.closeAll();
      await until(async () => (await balancing.status()).held_bytes === 0);
      return upstream.asked.length - before;
    };
    const [first, second] = [join(directory.path, "1"), join(directory.path, "2")];
    assert.equal(await ask([], first), prompts.length);
    assert.equal(await ask([first], second), 0);
  });
});

describe("a client of HTTP/1.0", () => {
  const ask = (fields: string) => `GET /x HTTP/1.0\r\n${fields}\r\n`;

  test("is told that the connection ends with its answer, or that it stays if it asked for that", async () => {
    await using upstream = await startUpstream();
    await using balancing = await balance([upstream]);
    using brief = await openRaw(balancing.url);
    brief.say(ask(""));
    assert.match(await brief.hearAll(), /^HTTP\/1\.1 200 [\s\S]*\r\nConnection: close\r\n/);
    using loyal = await openRaw(balancing.url);
    loyal.say(ask("Connection: Keep-Alive\r\n"));
    await loyal.hear(/\r\nConnection: keep-alive\r\n[\s\S]*"usage"/);
    loyal.say(ask(""));
    assert.match(await loyal.hearAll(), /\r\nConnection: close\r\n/);
  });

  test("gets a stream without chunks, which it would not know", async () => {
    await using upstream = await startUpstream(({ response }) => {
      response.writeHead(200, { "content-type": "text/event-stream" });
      response.write("data: 1\n\n");
      response.end("data: 2\n\n");
    });
    await using balancing = await balance([upstream]);
    using client = await openRaw(balancing.url);
    client.say(ask("Connection: Keep-Alive\r\n"));
    const heard = await client.hearAll();
    assert.match(heard, /\r\nConnection: close\r\n\r\ndata: 1\n\ndata: 2\n\n$/);
    assert.doesNotMatch(heard, /transfer-encoding/i);
  });
});
