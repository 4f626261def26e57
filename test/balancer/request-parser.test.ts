import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import type { RequestHead } from "../../src/balancer/request-head.ts";
import { RequestParser } from "../../src/balancer/request-parser.ts";
import { byteByByte, inChunks, split, whole } from "../support/torn.ts";

interface Request {
  readonly head: RequestHead;
  readonly body: string;
}

/** What a parser makes of the bytes of a connection that ends after them. */
interface Parsed {
  /** Those that are complete, in their order. */
  readonly requests: readonly Request[];
  /** `between`: after a request. `within`: in the middle of one. Else the reason why it reads no further. */
  readonly end: "between" | "within" | { readonly status: number; readonly message: string };
}

function parse(pieces: readonly Buffer[]): Parsed {
  const requests: Request[] = [];
  let head: RequestHead | undefined;
  let body = "";
  const parser = new RequestParser({
    onHead: (seen) => {
      assert.equal(head, undefined, "a head within a request");
      head = seen;
      body = "";
    },
    onData: (chunk) => {
      assert.notEqual(head, undefined, "data without a head");
      body += chunk.toString("latin1");
    },
    onEnd: () => {
      assert.ok(head !== undefined, "an end without a beginning");
      requests.push({ head, body });
      head = undefined;
    },
  });
  try {
    for (const piece of pieces) {
      for (let at = 0; at < piece.length; ) {
        if (parser.state === "done") parser.next();
        const end = parser.read(piece, at);
        assert.ok(end > at && end <= piece.length, "reads at least a byte, and what there is");
        at = end;
      }
    }
  } catch (error) {
    if (error instanceof assert.AssertionError) throw error;
    const { name, message, status = 400 } = error as Error & { status?: number };
    assert.match(name, /^(MalformedMessage|UnacceptableRequest)Error$/);
    return { requests, end: { status, message } };
  }
  return { requests, end: parser.state === "body" || parser.isWithinHead ? "within" : "between" };
}

const host = "Host: x\r\n";

const good = {
  "with a length": [`POST /x HTTP/1.1\r\n${host}Content-Length: 5\r\n\r\nhello`, "hello"],
  "in chunks": [
    `POST /x HTTP/1.1\r\n${host}Transfer-Encoding: Chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\n\r\n`,
    "hello",
  ],
  "in chunks with trailers": [
    `POST /x HTTP/1.1\r\n${host}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n`,
    "hello",
  ],
  "without a body": [`GET /x?a=%20 HTTP/1.1\r\n${host}\r\n`, ""],
  "of length nothing": [`POST /x HTTP/1.1\r\n${host}Content-Length: 0\r\n\r\n`, ""],
  "of HTTP/1.0, without a host": ["POST /x HTTP/1.0\r\nContent-Length: 2\r\n\r\nok", "ok"],
  "after empty lines": [`\r\n\r\nGET /x HTTP/1.1\r\n${host}\r\n`, ""],
  "that holds what ends a head": [
    `POST /x HTTP/1.1\r\n${host}Content-Length: 8\r\n\r\na\r\n\r\nb\r\n`,
    "a\r\n\r\nb\r\n",
  ],
} as const;

describe("a request", () => {
  for (const [what, [text, body]] of Object.entries(good)) {
    test(`${what} is read, in one piece or byte by byte, and so is one that follows`, () => {
      for (const pieces of [whole(text + text), byteByByte(text + text)]) {
        const { requests, end } = parse(pieces);
        assert.deepEqual([requests.map((one) => one.body), end], [[body, body], "between"]);
        assert.match(requests[1]?.head.target ?? "", /^\/x/);
      }
    });
  }

  test("passes on its fields as they were spelled, without those of the connection", () => {
    const fields = [
      "Accept:  a \t",
      "X-A: 1",
      "x-a: 2",
      "Host: x",
      "Connection: keep-alive, X-Hop",
      "X-Hop: 1",
      "Keep-Alive: timeout=5",
      "Upgrade: h2c",
      "TE: trailers",
      "Authorization: Bearer t",
      "X-Empty:",
      "Content-Length: 0",
    ];
    const { requests } = parse(whole(`POST /x HTTP/1.1\r\n${fields.join("\r\n")}\r\n\r\n`));
    assert.deepEqual(requests[0]?.head.fields, [
      ...["Accept", "a", "X-A", "1", "x-a", "2", "Authorization", "Bearer t", "X-Empty", ""],
    ]);
    assert.equal(requests[0]?.head.authorization, "Bearer t");
  });

  test("says whether another one may follow", () => {
    const says = (version: string, connection: string) =>
      parse(whole(`GET /x HTTP/${version}\r\n${host}${connection}\r\n`)).requests[0]?.head
        .keepAlive;
    assert.equal(says("1.1", ""), true);
    assert.equal(says("1.1", "Connection: x, Close\r\n"), false);
    assert.equal(says("1.0", ""), false);
    assert.equal(says("1.0", "Connection: Keep-Alive\r\n"), true);
  });

  test("says whether its client waits for a word before the body", () => {
    const says = (version: string, expect: string) =>
      parse(whole(`POST /x HTTP/${version}\r\n${host}${expect}\r\n`)).requests[0]?.head
        .expectsContinue;
    assert.equal(says("1.1", "Expect: 100-Continue\r\n"), true);
    assert.equal(says("1.0", "Expect: 100-continue\r\n"), false);
    assert.equal(says("1.1", ""), false);
  });
});

const post = (fields: string, body = "") => `POST /x HTTP/1.1\r\n${host}${fields}\r\n${body}`;
const chunked = (body: string) => post("Transfer-Encoding: chunked\r\n", body);

/** What safety.test.ts shows to be refused through a whole balancer is not here again. */
const refused = {
  "a line that is none": [400, "hello\r\n\r\n"],
  "a target of two words": [400, `GET /x /y HTTP/1.1\r\n${host}\r\n`],
  "two blanks in its line": [400, `GET  /x HTTP/1.1\r\n${host}\r\n`],
  "a tab in its line": [400, `GET\t/x HTTP/1.1\r\n${host}\r\n`],
  "a control character in its target": [400, `GET /\x7f HTTP/1.1\r\n${host}\r\n`],
  "a method that is no token": [400, `G(T /x HTTP/1.1\r\n${host}\r\n`],
  "no version": [400, `GET /x\r\n${host}\r\n`],
  "a version of two digits": [400, `GET /x HTTP/1.10\r\n${host}\r\n`],
  "a version in small letters": [400, `GET /x http/1.1\r\n${host}\r\n`],
  "a blank before its first field": [400, `GET /x HTTP/1.1\r\n ${host}\r\n`],
  "two hosts": [400, `GET /x HTTP/1.1\r\n${host}${host}\r\n`],
  "one length twice": [400, post("Content-Length: 2\r\nContent-Length: 2\r\n", "ok")],
  "a length beyond counting": [400, post(`Content-Length: ${"9".repeat(16)}\r\n`)],
  "a coding in two fields": [501, post("Transfer-Encoding: a\r\nTransfer-Encoding: chunked\r\n")],
  "an expectation that nobody knows": [417, post("Expect: 200-ok\r\n")],
  "a tunnel": [501, `CONNECT x:1 HTTP/1.1\r\n${host}\r\n`],
  "a negative chunk size": [400, chunked("-5\r\nhello\r\n0\r\n\r\n")],
  "no chunk size": [400, chunked("\r\nhello\r\n0\r\n\r\n")],
  "a chunk that is too long": [400, chunked("4\r\nhello\r\n0\r\n\r\n")],
  "a chunk size that is followed by a carriage return": [400, chunked("5\r\r\nhello\r\n0\r\n\r\n")],
  "a chunk extension without end": [400, chunked(`5;${"x".repeat(10_000)}`)],
  "a trailer that is none": [400, chunked("0\r\nno field\r\n\r\n")],
  "more trailers than anybody needs": [400, chunked(`0\r\n${"X: y\r\n".repeat(200)}\r\n`)],
} as const;

describe("what is no request, or could be read in two ways, is refused:", () => {
  for (const [what, [status, text]] of Object.entries(refused)) {
    test(what, () => {
      for (const pieces of [whole(text), byteByByte(text)]) {
        const { requests, end } = parse(pieces);
        assert.deepEqual(requests, []);
        assert.equal(typeof end === "string" ? end : end.status, status);
      }
    });
  }
});

describe("any bytes", () => {
  // Those that belong to one connection are not passed on; some are too short to be met with seldom.
  const ownNames =
    /^(content-|transfer-|connection$|host$|expect$|te$|trailer$|upgrade$|keep-alive$|proxy-)/i;
  const name = fc.stringMatching(/^[A-Za-z-]{1,12}$/).filter((spelled) => !ownNames.test(spelled));
  const field = fc.tuple(name, fc.stringMatching(/^[!-~]([ -~]{0,20}[!-~])?$/));
  const request = fc.record({
    bytes: fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes)),
    cuts: fc.array(fc.nat(300), { maxLength: 5 }),
    isChunked: fc.boolean(),
    fields: fc.array(field, { maxLength: 4 }),
  });
  type Drawn = typeof request extends fc.Arbitrary<infer T> ? T : never;

  function render({ bytes, cuts, isChunked, fields }: Drawn, n: number): Buffer {
    const lines = fields.map(([spelled, value]) => `${spelled}: ${value}\r\n`).join("");
    const head = (own: string) =>
      Buffer.from(`POST /${n} HTTP/1.1\r\n${host}${lines}${own}\r\n`, "latin1");
    if (!isChunked) return Buffer.concat([head(`Content-Length: ${bytes.length}\r\n`), bytes]);
    return Buffer.concat([head("Transfer-Encoding: chunked\r\n"), inChunks(bytes, cuts)]);
  }

  const several = fc.array(request, { minLength: 1, maxLength: 4 });
  const renderAll = (requests: readonly Drawn[]) => Buffer.concat(requests.map(render));

  test("of requests give the same requests, however they are torn", () => {
    fc.assert(
      fc.property(several, fc.array(fc.nat(2_000), { maxLength: 12 }), (drawn, cuts) => {
        const { requests, end } = parse(split(renderAll(drawn), cuts));
        assert.equal(end, "between");
        assert.deepEqual(
          requests.map(({ head, body }) => [head.target, head.fields, body]),
          drawn.map(({ bytes, fields }, n) => [`/${n}`, fields.flat(), bytes.toString("latin1")]),
        );
      }),
      { numRuns: 500 },
    );
  });

  test("that end before a request does are no request", () => {
    fc.assert(
      fc.property(request, fc.nat(2_000), fc.array(fc.nat(1_000)), (drawn, place, cuts) => {
        const bytes = render(drawn, 0);
        const end = 1 + (place % (bytes.length - 1));
        const parsed = parse(split(bytes.subarray(0, end), cuts));
        assert.deepEqual(parsed, { requests: [], end: "within" });
      }),
      { numRuns: 500 },
    );
  });

  test("are requests or an error, and the same however they are torn", () => {
    const sign = fc.constantFrom("\r", "\n", "\0", ":", " ", "0", "f", ";", "\r\n", "\r\n\r\n");
    const noise = fc.oneof(
      fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes)),
      fc.tuple(several, fc.nat(2_000), sign).map(([drawn, place, text]) => {
        const bytes = renderAll(drawn);
        bytes.write(text, place % bytes.length, "latin1");
        return bytes;
      }),
    );
    fc.assert(
      fc.property(noise, fc.array(fc.nat(2_000), { maxLength: 12 }), (bytes, cuts) => {
        assert.deepEqual(parse(split(bytes, cuts)), parse([bytes]));
      }),
      { numRuns: 2_000 },
    );
  });
});
