/**
 * A completions server whose speed is known, so that what a run costs beyond it can be told: each prompt takes a fixed time,
 * a fixed number of them at once, and the answers cost almost no CPU, as those of a machine of its own would not. Their
 * log-probabilities are all alike.
 *
 *     node bench/support/paced-server.ts --port 8000 --prompt-ms 20 --width 16 --ready-after-ms 3000 --tally FILE
 *
 * Each prompt that was answered adds a byte to `FILE`; the times of the start, of getting ready, and of the first and last
 * request are lines of `FILE.times`. Both survive a SIGKILL.
 */
import { appendFileSync, closeSync, openSync, writeSync } from "node:fs";
import { createServer, type Socket } from "node:net";
import { setTimeout as wait } from "node:timers/promises";
import { parseArgs } from "node:util";

const { values } = parseArgs({
  options: {
    port: { type: "string" },
    "prompt-ms": { type: "string", default: "20" },
    width: { type: "string", default: "16" },
    "ready-after-ms": { type: "string", default: "0" },
    tally: { type: "string" },
  },
});
const promptMs = Number(values["prompt-ms"]);
const readyAfterMs = Number(values["ready-after-ms"]);
const { tally } = values;
if (tally === undefined) throw new Error("--tally is missing");

function note(event: string): void {
  appendFileSync(`${tally}.times`, `${JSON.stringify({ event, at_ms: Date.now() })}\n`);
}

/**
 * When each of the places for prompts is free. A place goes on with the next prompt that waits at that instant, not when
 * this process, which has to share the machine with its clients, gets round to it: a real server would not wait for them.
 */
const freeAt: number[] = Array(Number(values.width)).fill(0);

async function workOnPrompt(): Promise<void> {
  const now = performance.now();
  const place = freeAt.indexOf(Math.min(...freeAt));
  const end = Math.max(now, freeAt[place] as number) + promptMs;
  freeAt[place] = end;
  await wait(end - now);
}

interface CompletionRequest {
  readonly prompt: string | string[] | number[] | number[][];
  readonly echo?: boolean;
  readonly logprobs?: number | null;
  readonly model?: string;
}

/** Tokens of each prompt; text counts byte by byte, as it was read. */
function lengthsOf(prompt: CompletionRequest["prompt"]): number[] {
  if (typeof prompt === "string") return [prompt.length];
  if (typeof prompt[0] === "number") return [prompt.length];
  return (prompt as (string | number[])[]).map((one) => one.length);
}

/** Log-probabilities of a prompt and one token more, as JSON; by length, since all are alike. */
const scored = new Map<number, string>();

function scoreOf(length: number): string {
  const known = scored.get(length);
  if (known !== undefined) return known;
  const text = `{"token_logprobs":[null${",-1.5".repeat(length)}],"top_logprobs":[null${',{"a":-1.5}'.repeat(length)}]}`;
  scored.set(length, text);
  return text;
}

const answered = openSync(tally, "a");
let asked = false;

async function complete(body: string, isProbe: boolean): Promise<string> {
  const wanted = JSON.parse(body) as CompletionRequest;
  const lengths = lengthsOf(wanted.prompt);
  // What eval-hive asks before an evaluation is no part of it.
  if (!isProbe) {
    if (!asked) note("first-request");
    asked = true;
    await Promise.all(lengths.map(workOnPrompt));
    writeSync(answered, ".".repeat(lengths.length));
  }
  const scoring = wanted.logprobs !== undefined && wanted.logprobs !== null;
  const choices = lengths.map((length, index) =>
    scoring
      ? `{"index":${index},"text":"a","logprobs":${scoreOf(length)}}`
      : `{"index":${index},"text":" 7"}`,
  );
  const prompt = lengths.reduce((sum, length) => sum + length, 0);
  const usage = `{"prompt_tokens":${prompt},"completion_tokens":${lengths.length}}`;
  return `{"choices":[${choices.join(",")}],"usage":${usage}}`;
}

const readyAt = performance.now() + readyAfterMs;
note("started");

async function answerTo(head: string, body: string): Promise<[status: string, body: string]> {
  if (head.startsWith("POST ")) {
    return ["200 OK", await complete(body, /^user-agent: eval-hive-probe\r?$/im.test(head))];
  }
  if (head.startsWith("GET /v1/models ")) {
    const id = process.env["EH_MODEL_PATH"] ?? "paced";
    return ["200 OK", JSON.stringify({ data: [{ id }] })];
  }
  return [performance.now() >= readyAt ? "200 OK" : "503 Service Unavailable", ""];
}

async function answer(socket: Socket, head: string, body: string): Promise<void> {
  const [status, answered] = await answerTo(head, body);
  const type = "content-type: application/json";
  const length = `content-length: ${answered.length}`;
  if (socket.writable)
    socket.write(`HTTP/1.1 ${status}\r\n${type}\r\n${length}\r\n\r\n${answered}`, "latin1");
}

/** As much of HTTP as the clients here speak: one request at a time per connection, of a length that it tells. */
const server = createServer({ noDelay: true }, (socket) => {
  let received = "";
  socket.setEncoding("latin1");
  socket.on("error", () => socket.destroy());
  socket.on("data", (data: string) => {
    received = received === "" ? data : received + data;
    const headEnd = received.indexOf("\r\n\r\n");
    if (headEnd < 0) return;
    const head = received.slice(0, headEnd);
    const end = headEnd + 4 + Number(/^content-length: (\d+)/im.exec(head)?.[1] ?? 0);
    if (received.length < end) return;
    const body = received.slice(headEnd + 4, end);
    received = received.slice(end);
    answer(socket, head, body).catch(() => socket.destroy());
  });
});
server.listen(Number(values.port ?? process.env["EH_PORT"]), "127.0.0.1");
void wait(readyAfterMs).then(() => note("ready"));
for (const signal of ["SIGTERM", "SIGINT"] as const) {
  process.once(signal, () => {
    closeSync(answered);
    note("stopped");
    process.exit(0);
  });
}
