import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import type { AnswerHead } from "../../src/balancer/answer-head.ts";
import { AnswerParser } from "../../src/balancer/answer-parser.ts";
import { byteByByte, inChunks, split, whole } from "../support/torn.ts";

/** What a parser makes of the bytes of a connection that ends after them. */
type Parsed =
  | { readonly kind: "answer"; readonly status: number; readonly body: string; reusable: boolean }
  | { readonly kind: "malformed"; readonly message: string };

function parse(pieces: readonly Buffer[], method = "POST"): Parsed {
  let head: AnswerHead | undefined;
  let body = "";
  let ended = 0;
  const parser = new AnswerParser({
    onHead: (seen) => {
      assert.equal(head, undefined, "a second head");
      head = seen;
    },
    onData: (chunk) => {
      assert.notEqual(head, undefined, "data before the head");
      assert.equal(ended, 0, "data after the end");
      body += chunk.toString("latin1");
    },
    onEnd: () => {
      ended += 1;
    },
  });
  parser.begin(method);
  try {
    for (const piece of pieces) {
      // As a connection does: the memory of a piece is used again for the next.
      const reused = Buffer.from(piece);
      parser.push(reused);
      reused.fill(0xdd);
    }
    const { reusable } = parser;
    parser.end();
    assert.equal(ended, 1, "neither an answer nor an error");
    return { kind: "answer", status: head?.status ?? 0, body, reusable };
  } catch (error) {
    if (error instanceof assert.AssertionError) throw error;
    assert.equal((error as Error).name, "MalformedMessageError");
    return { kind: "malformed", message: (error as Error).message };
  }
}

const answers = {
  "with a length": ["HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 200, "hello", true],
  "in chunks": [
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\n\r\n",
    200,
    "hello",
    true,
  ],
  "in chunks with trailers": [
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n",
    200,
    "hello",
    true,
  ],
  "until the connection ends": ["HTTP/1.1 200 OK\r\n\r\nhello", 200, "hello", false],
  "of HTTP/1.0": ["HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", 200, "hello", false],
  "of HTTP/1.0 that is kept alive": [
    "HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 5\r\n\r\nhello",
    200,
    "hello",
    true,
  ],
  "whose server closes": [
    "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello",
    200,
    "hello",
    false,
  ],
  "after interim answers": [
    "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\nX-A: 1\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    200,
    "ok",
    true,
  ],
  "without a body": ["HTTP/1.1 204 No Content\r\n\r\n", 204, "", true],
  "of length nothing": ["HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200, "", true],
  "without a reason": ["HTTP/1.1 429\r\nContent-Length: 0\r\n\r\n", 429, "", true],
  "with one length twice": [
    "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
    200,
    "x",
    true,
  ],
  "that holds what ends a head": [
    "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\na\r\n\r\nb\r\n",
    200,
    "a\r\n\r\nb\r\n",
    true,
  ],
  "with more after its end": [
    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP",
    200,
    "ok",
    false,
  ],
} as const;

describe("an answer", () => {
  for (const [what, [text, status, body, reusable]] of Object.entries(answers)) {
    test(`${what} is read, in one piece or byte by byte`, () => {
      const parsed = { kind: "answer", status, body, reusable };
      assert.deepEqual(parse(whole(text)), parsed);
      assert.deepEqual(parse(byteByByte(text)), parsed);
    });
  }

  test("to HEAD has no body, whatever its length says", () => {
    const parsed = parse(whole("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"), "HEAD");
    assert.deepEqual(parsed, { kind: "answer", status: 200, body: "", reusable: true });
  });

  test("passes on its fields as they were spelled, without those of the connection", () => {
    let head: AnswerHead | undefined;
    const parser = new AnswerParser({
      onHead: (seen) => {
        head = seen;
      },
      onData: () => {},
      onEnd: () => {},
    });
    parser.begin("POST");
    const fields = [
      "X-Reason:  too long \t",
      "Set-Cookie: a=1",
      "set-cookie: b=2",
      "Connection: keep-alive, X-Hop",
      "X-Hop: 1",
      "Keep-Alive: timeout=5",
      "Content-Type: text/plain",
      "X-Empty:",
      "Content-Length: 0",
    ];
    parser.push(Buffer.from(`HTTP/1.1 400 Bad\r\n${fields.join("\r\n")}\r\n\r\n`));
    assert.deepEqual(head?.fields, [
      ...["X-Reason", "too long", "Set-Cookie", "a=1", "set-cookie", "b=2"],
      ...["Content-Type", "text/plain", "X-Empty", ""],
    ]);
    assert.deepEqual([head?.reason, head?.contentType], ["Bad", "text/plain"]);
  });
});

const malformed = {
  "nothing at all": "",
  "no HTTP": "SSH-2.0-OpenSSH\r\n\r\n",
  "HTTP/2": "HTTP/2 200 OK\r\n\r\n",
  "a status of two digits": "HTTP/1.1 20 OK\r\n\r\n",
  "a status below 100": "HTTP/1.1 099 OK\r\n\r\n",
  "switching protocols": "HTTP/1.1 101 Switching Protocols\r\n\r\n",
  "a head that does not end": "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n",
  "line feeds alone": "HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
  "a folded field": "HTTP/1.1 200 OK\r\nX-A: 1\r\n 2\r\nContent-Length: 0\r\n\r\n",
  "a blank before a colon": "HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nok",
  "a field without a name": "HTTP/1.1 200 OK\r\n: 1\r\n\r\n",
  "a field without a colon": "HTTP/1.1 200 OK\r\nContent-Length\r\n\r\n",
  "a NUL in a field": "HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 0\r\n\r\n",
  "both framings":
    "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
  "two lengths": "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
  "a signed length": "HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello",
  "a hexadecimal length": "HTTP/1.1 200 OK\r\nContent-Length: 0x5\r\n\r\nhello",
  "a length beyond counting": `HTTP/1.1 200 OK\r\nContent-Length: ${"9".repeat(20)}\r\n\r\nhello`,
  "another coding": "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
  "chunked twice":
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
  "a body that is too short": "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello",
  "chunks that do not end": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
  "a chunk that is too long":
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhello\r\n0\r\n\r\n",
  "a chunk size with a prefix":
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n",
  "a negative chunk size":
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n0\r\n\r\n",
  "no chunk size": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\r\nhello\r\n0\r\n\r\n",
  "a chunk size beyond counting": `HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n${"f".repeat(17)}\r\nhello`,
  "a chunk size whose line ends with a line feed alone":
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n",
  "a trailer that is none":
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nno field\r\n\r\n",
  "a head without end": `HTTP/1.1 200 OK\r\nX: ${"x".repeat(70_000)}`,
  "a chunk extension without end": `HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;${"x".repeat(10_000)}`,
  "nothing but interim answers": "HTTP/1.1 100 Continue\r\n\r\n".repeat(200),
};

describe("what is no answer is an error:", () => {
  for (const [what, text] of Object.entries(malformed)) {
    test(what, () => {
      assert.equal(parse(whole(text)).kind, "malformed");
      assert.equal(parse(byteByByte(text)).kind, "malformed");
    });
  }
});

describe("any bytes", () => {
  const token = fc
    .stringMatching(/^[A-Za-z-]{1,12}$/)
    .filter((name) => !/^(content-|transf|conn)/i.test(name));
  const field = fc.tuple(token, fc.stringMatching(/^[!-~]([ -~]{0,20}[!-~])?$/));
  const body = fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes));
  const framed = fc.tuple(
    body,
    fc.array(fc.nat(300), { maxLength: 5 }),
    fc.constantFrom("length", "chunked", "close"),
  );

  function render(
    [bytes, cuts, framing]: readonly [Buffer, readonly number[], string],
    fields: readonly (readonly [string, string])[],
  ): Buffer {
    const lines = fields.map(([name, value]) => `${name}: ${value}\r\n`).join("");
    const head = (own: string) => Buffer.from(`HTTP/1.1 200 OK\r\n${lines}${own}\r\n`, "latin1");
    if (framing === "close") return Buffer.concat([head(""), bytes]);
    if (framing === "length") {
      return Buffer.concat([head(`Content-Length: ${bytes.length}\r\n`), bytes]);
    }
    return Buffer.concat([head("Transfer-Encoding: chunked\r\n"), inChunks(bytes, cuts)]);
  }

  test("of an answer give the same body, however they are torn", () => {
    fc.assert(
      fc.property(
        framed,
        fc.array(field, { maxLength: 4 }),
        fc.array(fc.nat(1_000), { maxLength: 12 }),
        (answer, fields, cuts) => {
          const bytes = render(answer, fields);
          const parsed = parse(split(bytes, cuts));
          const expected = answer[0].toString("latin1");
          const reusable = answer[2] !== "close";
          assert.deepEqual(parsed, { kind: "answer", status: 200, body: expected, reusable });
        },
      ),
      { numRuns: 500 },
    );
  });

  test("that end before an answer does are an error, unless its end is that of the connection", () => {
    fc.assert(
      fc.property(framed, fc.nat(2_000), fc.array(fc.nat(1_000)), (answer, place, cuts) => {
        const bytes = render(answer, []);
        const headBytes = bytes.indexOf("\r\n\r\n") + 4;
        const end = place % bytes.length;
        if (answer[2] === "close" && end >= headBytes) return;
        assert.equal(parse(split(bytes.subarray(0, end), cuts)).kind, "malformed");
      }),
      { numRuns: 500 },
    );
  });

  test("are an answer or an error, and the same one however they are torn", () => {
    const noise = fc.oneof(
      fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes)),
      fc
        .tuple(framed, fc.nat(2_000), fc.constantFrom("\r", "\n", "\0", ":", " ", "0", "f", ";"))
        .map(([answer, place, sign]) => {
          const bytes = render(answer, [["X-A", "b"]]);
          bytes.write(sign, place % bytes.length, "latin1");
          return bytes;
        }),
    );
    fc.assert(
      fc.property(noise, fc.array(fc.nat(1_000), { maxLength: 12 }), (bytes, cuts) => {
        const once = parse([bytes]);
        const torn = parse(split(bytes, cuts));
        assert.equal(torn.kind, once.kind);
        if (once.kind === "answer")
          assert.deepEqual({ ...torn, reusable: 0 }, { ...once, reusable: 0 });
      }),
      { numRuns: 2_000 },
    );
  });
});
