import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { balance, openClient, token } from "../support/balancing.ts";
import { openRaw } from "../support/raw-http.ts";
import { until } from "../support/until.ts";
import { answer, startUpstream } from "../support/upstream.ts";

/** Each could be read in two ways, or is none of HTTP/1.1. What follows would be taken for a request by one of two readers. */
const smuggled = "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n";
const broken = {
  "both lengths": `POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n${smuggled}`,
  "both lengths, the other way round": `POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n${smuggled}`,
  "two lengths": `POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 40\r\n\r\n{}${smuggled}`,
  "a list of lengths": "POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 2, 2\r\n\r\n{}",
  "a signed length": "POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: +2\r\n\r\n{}",
  "a hexadecimal length": "POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 0x2\r\n\r\n{}",
  "a length without digits": "POST /x HTTP/1.1\r\nHost: x\r\nContent-Length:\r\n\r\n{}",
  "a chunk size with a prefix":
    "POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0x2\r\n{}\r\n0\r\n\r\n",
  "a chunk that is longer than its size": `POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{}\r\n0\r\n\r\n${smuggled}`,
  "a chunk size beyond counting":
    "POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n{}\r\n",
  "a chunk size whose line ends with a line feed alone":
    "POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\n{}\n0\n\n",
  "another coding": `POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n${smuggled}`,
  "a coding that looks like chunked":
    "POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
  "chunked twice":
    "POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
  "chunks in HTTP/1.0": "POST /x HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
  "a folded field": "POST /x HTTP/1.1\r\nHost: x\r\nX-A: 1\r\n 2\r\nContent-Length: 2\r\n\r\n{}",
  "a folded coding":
    "POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
  "a blank before a colon": "POST /x HTTP/1.1\r\nHost: x\r\nContent-Length : 2\r\n\r\n{}",
  "a field without a name": "POST /x HTTP/1.1\r\nHost: x\r\n: 1\r\nContent-Length: 2\r\n\r\n{}",
  "a NUL in a field": "POST /x HTTP/1.1\r\nHost: x\r\nX: a\0b\r\nContent-Length: 2\r\n\r\n{}",
  "a carriage return in a field":
    "POST /x HTTP/1.1\r\nHost: x\r\nX: a\rb\r\nContent-Length: 2\r\n\r\n{}",
  "line feeds alone": "POST /x HTTP/1.1\nHost: x\nContent-Length: 2\n\n{}",
  "no host": "POST /x HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}",
  "HTTP/2": "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
  "no HTTP at all": "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
  "a head without end": `POST /x HTTP/1.1\r\nHost: x\r\nX: ${"x".repeat(100_000)}`,
} as const;

describe("a request that could be read in two ways is refused:", () => {
  for (const [what, text] of Object.entries(broken)) {
    test(what, async () => {
      await using upstream = await startUpstream();
      await using balancing = await balance([upstream]);
      using client = await openRaw(balancing.url);
      client.say(text);
      // For those that only a time-out would end.
      client.end();
      const heard = await client.hearAll();
      if (heard !== "") assert.match(heard, /^HTTP\/1\.1 (400|408|413|431|501|505) /);
      assert.equal(heard.split("HTTP/1.1 ").length <= 2, true, heard);
      assert.equal(upstream.asked.length, 0);
    });
  }
});

describe("a slow client", () => {
  test("that does not end its head is cut off", async () => {
    await using upstream = await startUpstream();
    await using balancing = await balance([upstream], { limits: { headMs: 200 } });
    using silent = await openRaw(balancing.url);
    using slow = await openRaw(balancing.url);
    slow.say("POST /x HTTP/1.1\r\nHo");
    const drip = setInterval(() => slow.say("s"), 50);
    await Promise.all([silent.hearAll(), slow.hearAll()]);
    clearInterval(drip);
    assert.equal(upstream.asked.length, 0);
  });

  test("that does not end its body is cut off", async () => {
    await using upstream = await startUpstream();
    const limits = { bodyMs: 200, bodyBytesPerS: 10_000 };
    await using balancing = await balance([upstream], { limits });
    using slow = await openRaw(balancing.url);
    slow.say("POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n");
    const drip = setInterval(() => slow.say("x"), 50);
    const heard = await slow.hear(/\}\}/);
    clearInterval(drip);
    assert.match(heard, /^HTTP\/1\.1 408 /);
    assert.equal(upstream.asked.length, 0);
    await until(async () => (await balancing.status()).in_flight === 0);
  });

  test("that is as fast as it must be is not", async () => {
    await using upstream = await startUpstream(({ response, body }) =>
      answer(response, 200, body.length),
    );
    const limits = { bodyMs: 100, bodyBytesPerS: 1 };
    await using balancing = await balance([upstream], { limits });
    using slow = await openRaw(balancing.url);
    slow.say("POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 60\r\n\r\n");
    let sent = 0;
    const drip = setInterval(() => {
      if (sent++ < 60) slow.say("x");
    }, 20);
    assert.match(await slow.hear(/\r\n\r\n60/), /^HTTP\/1\.1 200 /);
    clearInterval(drip);
  });

  test("that does not take its answer is cut off, and what was held for it is free again", async () => {
    const large = "x".repeat(40 << 20);
    await using upstream = await startUpstream(({ response }) => answer(response, 200, large));
    const limits = { holdBytes: 64 << 20, takeAnswerMs: 300 };
    await using balancing = await balance([upstream], { limits });
    using deaf = await openRaw(balancing.url);
    deaf.socket.pause();
    deaf.say("GET /x HTTP/1.1\r\nHost: x\r\n\r\n");
    await until(async () => (await balancing.status()).held_bytes > large.length);
    await until(async () => (await balancing.status()).held_bytes === 0);
    assert.deepEqual((await balancing.status()).in_flight, 0);
  });

  test("whose connection is idle for long is cut off between requests, not during one", async () => {
    let reply: (() => void) | undefined;
    await using upstream = await startUpstream(({ response }) => {
      reply = () => answer(response, 200);
    });
    await using balancing = await balance([upstream], { limits: { clientIdleMs: 100 } });
    using client = await openRaw(balancing.url);
    client.say("POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}");
    const from = performance.now();
    await until(() => performance.now() - from > 700 && reply !== undefined);
    reply?.();
    assert.match(await client.hearAll(), /^HTTP\/1\.1 200 [\s\S]*"usage"/);
  });
});

describe("a client that shuts its side after the request", () => {
  test("gets its answer", async () => {
    let reply: (() => void) | undefined;
    await using upstream = await startUpstream(({ response }) => {
      reply = () => answer(response, 200);
    });
    await using balancing = await balance([upstream]);
    using client = await openRaw(balancing.url);
    client.say("POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}");
    client.end();
    await until(() => reply !== undefined);
    // It was asked whether it is there, and still is.
    await client.hear(/^HTTP\/1\.1 100 [\s\S]*HTTP\/1\.1 100 /);
    reply?.();
    assert.match(await client.hearAll(), /HTTP\/1\.1 200 [\s\S]*"usage"/);
  });

  test("and then goes is noticed", async () => {
    await using upstream = await startUpstream(() => {});
    await using balancing = await balance([upstream]);
    using client = await openRaw(balancing.url);
    client.say("POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}");
    await until(() => upstream.asked.length === 1);
    client.end();
    client.socket.destroy();
    await until(() => upstream.asked[0]?.gone === true);
  });
});

describe("requests on one connection", () => {
  test("are answered in their order when they come at once", async () => {
    await using upstream = await startUpstream(({ request, response }) => {
      const answerIt = () => answer(response, 200, { path: request.url });
      if (request.url === "/first") setTimeout(answerIt, 50);
      else answerIt();
    });
    await using balancing = await balance([upstream]);
    using client = await openRaw(balancing.url);
    client.say("GET /first HTTP/1.1\r\nHost: x\r\n\r\nGET /second HTTP/1.1\r\nHost: x\r\n\r\n");
    const heard = await client.hear(/second/);
    assert.ok(heard.indexOf("/first") < heard.indexOf("/second"));
  });

  test("go on after one whose client says `Expect: 100-continue`", async () => {
    await using upstream = await startUpstream(({ response, body }) => answer(response, 200, body));
    await using balancing = await balance([upstream]);
    using client = await openRaw(balancing.url);
    const head = "POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n";
    client.say(`${head}Expect: 100-continue\r\n\r\n`);
    await client.hear(/^HTTP\/1\.1 100 Continue\r\n\r\n/);
    client.say("first");
    await client.hear(/"first"/);
    client.say(`${head}\r\nagain`);
    await client.hear(/"again"/);
  });
});

describe("a token", () => {
  test("is needed to listen where others reach it", async () => {
    const reachable = ["0.0.0.0", "::", "", "0", "10.0.0.1", "::ffff:10.0.0.1"];
    for (const host of [...reachable, "localhost.example", "127.0.0.1.example"]) {
      await assert.rejects(balance([], { host }), /needs a token/, host);
      await assert.rejects(balance([], { host, token: "" }), /needs a token/, host);
    }
    await using balancing = await balance([], { host: "0.0.0.0", token });
    assert.equal((await fetch(`${balancing.url}/lb/health`)).status, 200);
  });

  test("is needed in the path or as `Authorization`, for requests and pages", async () => {
    await using upstream = await startUpstream();
    await using balancing = await balance([upstream], { token });
    const get = async (path: string, bearer?: string) => {
      const headers = bearer === undefined ? {} : { authorization: `Bearer ${bearer}` };
      const response = await fetch(`${balancing.url}${path}`, { headers });
      await response.text();
      return response.status;
    };
    for (const path of ["/v1/models", "/lb/status", "/metrics"]) {
      assert.equal(await get(path), 403, path);
      assert.equal(await get(path, `${token}x`), 403, path);
      assert.equal(await get(path, token), 200, path);
    }
    for (const path of ["/lb/status", "/metrics", "/account/0/v1/models"]) {
      assert.equal(await get(`/eh/${token}${path}`), 200, path);
      assert.equal(await get(`/eh/${token}x${path}`), 403, path);
    }
    assert.equal(await get("/lb/health"), 200);
  });

  test("that is ours does not reach servers; a client's own one does", async () => {
    await using upstream = await startUpstream();
    await using balancing = await balance([upstream], { token });
    const ask = async (path: string, authorization: string) => {
      await fetch(`${balancing.url}${path}`, { headers: { authorization } });
      return upstream.asked.at(-1)?.request.headers.authorization;
    };
    assert.equal(await ask("/v1/models", `Bearer ${token}`), undefined);
    assert.equal(await ask(`/eh/${token}/a/0/v1/models`, "Bearer own"), "Bearer own");
  });
});

test("neither bodies nor tokens get into the log, whatever fails", async () => {
  const secret = "the-text-of-a-prompt";
  await using upstream = await startUpstream(({ request: { socket }, response }, n) => {
    if (n % 3 === 0) socket.destroy();
    else answer(response, n % 3 === 1 ? 500 : 400, secret);
  });
  await using balancing = await balance([upstream], { token, limits: { pauseMs: 1 } });
  using client = openClient(balancing.url);
  await Promise.all(
    Array.from({ length: 20 }, () =>
      client.post(`/eh/${token}/account/0/v1/completions`, JSON.stringify({ prompt: secret })),
    ),
  );
  const log = await balancing.log();
  assert.match(log, /server joined/);
  assert.doesNotMatch(log, new RegExp(secret));
  assert.doesNotMatch(log, new RegExp(token));
});
