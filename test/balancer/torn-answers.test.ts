import assert from "node:assert/strict";
import { once } from "node:events";
import { type AddressInfo, createServer, type Socket } from "node:net";
import { test } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import { openRandom, type Random } from "../../examples/demo/random.ts";
import { balance, openClient } from "../support/balancing.ts";
import { isLong } from "../support/require.ts";

const seed = Number(process.env["TORN_SEED"] ?? 20261126);

/** With one brace at its end, so that JSON that is cut short shows. */
function bodyFor(path: string): string {
  return `{"path": "${path}", "text": "${"torn ".repeat(Number(path.slice(1)) % 400)}"}`;
}

/** What a server may say in one of HTTP/1.1's three framings, and whether it closes the connection afterwards. */
function frame(body: string, random: Random): { readonly text: string; readonly closes: boolean } {
  const interim = random.below(5) === 0 ? "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" : "";
  const head = `${interim}HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n`;
  switch (random.below(3)) {
    case 0:
      return { text: `${head}Content-Length: ${body.length}\r\n\r\n${body}`, closes: false };
    case 1: {
      let chunks = "";
      for (let at = 0; at < body.length; ) {
        const size = 1 + random.below(700);
        const data = body.slice(at, at + size);
        chunks += `${data.length.toString(16)}${random.pick(["", ";x=1"])}\r\n${data}\r\n`;
        at += size;
      }
      const trailer = random.pick(["", "X-Sum: 1\r\n"]);
      const text = `${head}Transfer-Encoding: chunked\r\n\r\n${chunks}0\r\n${trailer}\r\n`;
      return { text, closes: false };
    }
    default:
      return { text: `${head}Connection: close\r\n\r\n${body}`, closes: true };
  }
}

const damages = {
  none: (text) => text,
  "cut off": (text, random) => text.slice(0, random.below(text.length)),
  "a byte too many before": (text) => `\0${text}`,
  "no status": (text) => text.replace(" 200 OK", " OK"),
  "two lengths": (text) =>
    text.replace("\r\n\r\n", "\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"),
  "both framings": (text) =>
    text.replace("\r\n\r\n", "\r\nContent-Length: 7\r\nTransfer-Encoding: chunked\r\n\r\n"),
  "a folded field": (text) => text.replace("\r\n\r\n", "\r\n folded\r\n\r\n"),
  "a field without a name": (text) => text.replace("\r\n\r\n", "\r\n: x\r\n\r\n"),
  // No second answer: nobody could tell it from that to the next request.
  "more than the answer": (text) => `${text}more`,
} as const satisfies Record<string, (text: string, random: Random) => string>;

/** In pieces, each in a read of its own as far as the kernel goes along. */
async function say(socket: Socket, text: string, random: Random): Promise<void> {
  for (let at = 0; at < text.length; ) {
    const size = 1 + random.below(random.pick([1, 20, 4_000]));
    socket.write(text.slice(at, at + size), "latin1");
    at += size;
    // Byte by byte through a head, in larger steps through a long body.
    if (at < 300 || random.below(4) === 0) await turn();
  }
}

/** A server that damages answers of its framings in every way that a client can notice. */
async function startTearingServer(random: Random) {
  const dealt = new Map<string, number>();
  const kinds = Object.keys(damages) as (keyof typeof damages)[];
  const server = createServer((socket) => {
    let heard = "";
    socket.on("error", () => {});
    socket.on("data", async (bytes) => {
      heard += bytes.toString("latin1");
      const asked = /^(?:GET (\S+) .*\r\n\r\n|POST (\S+) .*\r\n\r\n\{\})$/s.exec(heard);
      if (asked === null) return;
      heard = "";
      const path = asked[1] ?? (asked[2] as string);
      if (path === "/health") {
        socket.write("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        return;
      }
      const { text, closes } = frame(bodyFor(path), random);
      const kind = random.pick(kinds);
      dealt.set(kind, (dealt.get(kind) ?? 0) + 1);
      // What follows an answer that ends with the connection is a part of it.
      const isHarmless = kind === "none" || (closes && kind === "more than the answer");
      await say(socket, isHarmless ? text : damages[kind](text, random), random);
      if (closes || kind !== "none") socket.end();
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    dealt,
    [Symbol.asyncDispose]: async () => {
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

test("answers that are torn, cut and malformed never reach a client: it gets whole ones", async (t) => {
  const random = openRandom(seed);
  await using tearing = await startTearingServer(random);
  await using other = await startTearingServer(random);
  // Both lie eight times out of nine, and nobody else is there: what is right must come from them.
  const limits = { pauseMs: 1, longestPauseMs: 5 };
  await using balancing = await balance([tearing, other], { limits });
  using client = openClient(balancing.url);
  let next = 0;
  const requests = isLong ? 4_000 : 400;
  const outcomes = { whole: 0, refused: 0 };
  await Promise.all(
    Array.from({ length: 16 }, async () => {
      for (let n = next++; n < requests; n = next++) {
        const path = `/${n}`;
        const { status, body } = await client.post(path, "{}");
        if (status === 200) {
          assert.ok(
            body === bodyFor(path),
            `another answer than that to ${path}: ${JSON.stringify(body)}`,
          );
          outcomes.whole += 1;
        } else {
          // Six attempts came to nothing, which the balancer says in its own words.
          assert.match(body, /"type":"balancer"/);
          outcomes.refused += 1;
        }
      }
    }),
  );
  assert.equal(outcomes.whole + outcomes.refused, requests);
  assert.ok(outcomes.whole > requests / 4, JSON.stringify(outcomes));
  t.diagnostic(JSON.stringify({ seed, ...outcomes, dealt: Object.fromEntries(tearing.dealt) }));
});
