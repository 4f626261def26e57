/**
 * A completions server that answers at once and computes nothing: its answer to a scoring request depends on the number of
 * token ids alone, and is made once for each number. It knows just enough HTTP for that; one prompt per request.
 *
 *     node bench/support/instant-server.ts [--delay-ms 50]
 *
 * Prints one line of JSON, `{"port": …}`. GET answers `{"first_request_at_ms": …}`, and forgets it. Ends with its
 * stdin, so that no bench that is stopped leaves it behind.
 */
import { type AddressInfo, createServer, type Socket } from "node:net";
import { parseArgs } from "node:util";

const { values } = parseArgs({ options: { "delay-ms": { type: "string", default: "0" } } });
const delayMs = Number(values["delay-ms"]);

const answers = new Map<number, Buffer>();
let firstRequestAtMs: number | undefined;

/** In the form of vLLM's, log-probabilities with as many digits as its own have. */
function answerTo(ids: number): Buffer {
  const known = answers.get(ids);
  if (known !== undefined) return known;
  const logprobs = Array.from(
    { length: ids },
    (_, at) => -(((at * 2_654_435_761) % 1_000_003) + 1) / 131_072.7,
  );
  const body = JSON.stringify({
    id: "cmpl-instant",
    object: "text_completion",
    choices: [
      {
        index: 0,
        text: "",
        logprobs: {
          text_offset: [],
          token_logprobs: [null, ...logprobs],
          tokens: [],
          top_logprobs: [null, ...logprobs.map((logprob, at) => ({ [`token${at}`]: logprob }))],
        },
      },
    ],
  });
  const answer = http(body);
  answers.set(ids, answer);
  return answer;
}

function http(body: string): Buffer {
  const length = Buffer.byteLength(body);
  return Buffer.from(
    `HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: ${length}\r\n\r\n${body}`,
  );
}

/** Ids are numbers with commas between them; the other commas of a scoring request are always as many. */
function countIds(body: Buffer): number {
  let commas = 0;
  for (const byte of body) if (byte === 0x2c) commas++;
  return commas - 6 + 1;
}

function answerAll(socket: Socket, received: Buffer): Buffer {
  for (;;) {
    const headEnd = received.indexOf("\r\n\r\n");
    if (headEnd < 0) return received;
    const head = received.toString("latin1", 0, headEnd);
    if (head.startsWith("GET")) {
      socket.end(http(JSON.stringify({ first_request_at_ms: firstRequestAtMs })));
      firstRequestAtMs = undefined;
      return Buffer.alloc(0);
    }
    const length = Number(/content-length: (\d+)/i.exec(head)?.[1]);
    const end = headEnd + 4 + length;
    if (received.length < end) return received;
    firstRequestAtMs ??= Date.now();
    const answer = answerTo(countIds(received.subarray(headEnd + 4, end)));
    if (delayMs === 0) socket.write(answer);
    else setTimeout(() => socket.write(answer), delayMs);
    received = received.subarray(end);
  }
}

const server = createServer({ noDelay: true }, (socket) => {
  let received: Buffer = Buffer.alloc(0);
  socket.on("data", (data) => {
    received = answerAll(socket, received.length === 0 ? data : Buffer.concat([received, data]));
  });
  socket.on("error", () => socket.destroy());
});
server.listen(0, "127.0.0.1", () => {
  process.stdout.write(`${JSON.stringify({ port: (server.address() as AddressInfo).port })}\n`);
});
process.once("SIGTERM", () => process.exit(0));
process.stdin.resume().once("end", () => process.exit(0));
