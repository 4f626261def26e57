import assert from "node:assert/strict";
import { test } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import { openRandom, type Random } from "../../examples/demo/random.ts";
import { balance } from "../support/balancing.ts";
import { openRaw, type RawConnection } from "../support/raw-http.ts";
import { isLong } from "../support/require.ts";
import { until } from "../support/until.ts";
import { answer, startUpstream } from "../support/upstream.ts";

const seed = Number(process.env["TORN_SEED"] ?? 20261126);

/** What no client here asks for: whoever sees it has read a body, or what follows a damaged request, as a request. */
const smuggled = "POST /smuggled HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n";

/** Some of them are longer than what is read at once, and than what a socket takes. */
function bodyFor(n: number, random: Random): string {
  return `${n} ${smuggled.repeat(random.pick([0, 1, 1, 30, 3_000]))}`;
}

/** A request in one of HTTP/1.1's two framings. */
function frame(n: number, body: string, random: Random): string {
  const head = `POST /${n} HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\n`;
  if (random.below(2) === 0) return `${head}Content-Length: ${body.length}\r\n\r\n${body}`;
  let chunks = "";
  for (let at = 0; at < body.length; ) {
    const data = body.slice(at, at + 1 + random.below(random.pick([70, 70_000])));
    chunks += `${data.length.toString(16)}${random.pick(["", ";x=1"])}\r\n${data}\r\n`;
    at += data.length;
  }
  const trailer = random.pick(["", "X-Sum: 1\r\n"]);
  return `${head}Transfer-Encoding: chunked\r\n\r\n${chunks}0\r\n${trailer}\r\n`;
}

const intoHead = (text: string, lines: string) => text.replace("\r\n\r\n", `\r\n${lines}\r\n\r\n`);

const damages = {
  "cut off": (text, random) => text.slice(0, random.below(text.length)),
  "a sign too many before": (text) => `\0${text}`,
  "no version": (text) => text.replace(" HTTP/1.1", ""),
  "another version": (text) => text.replace("HTTP/1.1", "HTTP/2.0"),
  "two lengths": (text) => intoHead(text, "Content-Length: 1\r\nContent-Length: 2"),
  "both framings": (text) => intoHead(text, "Content-Length: 7\r\nTransfer-Encoding: chunked"),
  "another coding": (text) => intoHead(text, "Transfer-Encoding: gzip"),
  "two hosts": (text) => intoHead(text, "Host: y"),
  "a folded field": (text) => intoHead(text, "X-A: 1\r\n folded"),
  "a field without a name": (text) => intoHead(text, ": x"),
  "a line feed for a line end": (text) => text.replace("\r\n", "\n"),
  "a head that is too long": (text) => intoHead(text, `X: ${"x".repeat(20_000)}`),
} as const satisfies Record<string, (text: string, random: Random) => string>;

/** In pieces, each in a read of its own as far as the kernel goes along. */
async function say(client: RawConnection, text: string, random: Random): Promise<void> {
  for (let at = 0; at < text.length && !client.isClosed; ) {
    const size = 1 + random.below(random.pick([1, 20, 40_000]));
    client.say(text.slice(at, at + size));
    at += size;
    if (random.below(8) === 0) await turn();
  }
}

interface Heard {
  readonly status: number;
  readonly body: string;
}

/** The answers in what has come: each of ours tells its length. */
function answersIn(received: string): Heard[] {
  const heard: Heard[] = [];
  for (let at = 0; at < received.length; ) {
    const bodyAt = received.indexOf("\r\n\r\n", at) + 4;
    const head = received.slice(at, bodyAt);
    const [, status, length] =
      /^HTTP\/1\.1 (\d+) [\s\S]*\r\nContent-Length: (\d+)/.exec(head) ?? [];
    if (bodyAt < 4 || length === undefined) break;
    at = bodyAt + Number(length);
    if (at <= received.length) {
      heard.push({ status: Number(status), body: received.slice(bodyAt, at) });
    }
  }
  return heard;
}

test("requests that are torn are answered in their order; malformed ones are refused, and none is made of parts of others", async (t) => {
  const random = openRandom(seed);
  const bodies = new Map<string, string>();
  await using upstream = await startUpstream(({ request, response, body }) => {
    const path = request.url ?? "";
    // To the client it is told with the answer, and here what was made of it.
    if (bodies.get(path) !== body) answer(response, 400, `no request of ours: ${path}`);
    else if (random.below(4) > 0) answer(response, 200, path);
    else setTimeout(() => answer(response, 200, path), random.below(20));
  });
  await using balancing = await balance([upstream]);
  const dealt = new Map<string, number>();
  const kinds = Object.keys(damages) as (keyof typeof damages)[];
  const connections = isLong ? 1_000 : 120;
  let next = 0;
  let answered = 0;

  async function ask(): Promise<void> {
    const expected: string[] = [];
    let text = "";
    for (let n = random.below(6); n > 0; n--) {
      const path = `/${bodies.size}`;
      const body = bodyFor(bodies.size, random);
      text += frame(bodies.size, body, random);
      bodies.set(path, body);
      expected.push(JSON.stringify(path));
    }
    const kind = random.pick(kinds);
    dealt.set(kind, (dealt.get(kind) ?? 0) + 1);
    const damaged = damages[kind](frame(-1, bodyFor(-1, random), random), random);
    const rest = kind === "cut off" ? "" : smuggled;
    using client = await openRaw(balancing.url);
    await say(client, text + damaged + rest, random);
    // All that is whole is answered also when it was said in advance.
    await until(() => answersIn(client.received).length >= expected.length, {
      what: `${expected.length} answers before ${kind}: ${client.received.slice(-200)}`,
    });
    client.end();
    const heard = answersIn(await client.hearAll());
    assert.deepEqual(
      heard.slice(0, expected.length),
      expected.map((body) => ({ status: 200, body })),
    );
    const [refusal, ...more] = heard.slice(expected.length);
    assert.deepEqual(more, []);
    if (refusal !== undefined) assert.match(`${refusal.status}`, /^(400|408|501)$/, kind);
    answered += expected.length;
  }

  await Promise.all(
    Array.from({ length: 8 }, async () => {
      while (next++ < connections) await ask();
    }),
  );
  assert.equal(upstream.asked.length, answered);
  assert.equal(answered, bodies.size);
  await until(async () => {
    const { held_bytes, in_flight } = await balancing.status();
    return held_bytes === 0 && in_flight === 0;
  });
  t.diagnostic(JSON.stringify({ seed, answered, dealt: Object.fromEntries(dealt) }));
});
