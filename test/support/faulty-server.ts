/**
 * A completions server without a model, as a program of its own, that fails as it is told to:
 *
 *     node test/support/faulty-server.ts PORT
 *
 * Equal prompts get equal answers. `POST /behave` sets what it does from then on (`Behaviour` as JSON); a prompt that holds
 * `kill-the-server` or `fail-always` does so wherever it is asked. Prints `ready` once it listens.
 */
import { createHash } from "node:crypto";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { Socket } from "node:net";
import { setTimeout as wait } from "node:timers/promises";

export interface Behaviour {
  /** Answers wait until it behaves otherwise. */
  readonly hold?: boolean;
  /** Before each answer. */
  readonly delayMs?: number;
  /**
   * `error`: 500 at once. `truncate`: a body that is shorter than its length says. `cut`: JSON that ends early, well framed.
   * `reset`: the connection breaks before an answer; `reset-late`: in the middle of one.
   */
  readonly fault?: "none" | "error" | "truncate" | "cut" | "reset" | "reset-late";
  /** Of requests that meet the fault. Default: all. */
  readonly percent?: number;
}

/** What every healthy server answers. */
export function answerTo(prompt: string, bytes: number): string {
  const digest = createHash("sha256").update(prompt).digest("hex");
  const text = digest.repeat(Math.ceil(bytes / digest.length)).slice(0, Math.max(bytes, 16));
  const usage = { prompt_tokens: prompt.length, completion_tokens: 1 };
  return JSON.stringify({ choices: [{ index: 0, text }], usage });
}

interface Completion {
  readonly prompt: string;
  readonly answer_bytes?: number;
}

let behaviour: Behaviour = {};
/** Answers that are held. */
let held: (() => void)[] = [];
let counter = 0;

async function readBody(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString("utf8");
}

async function complete(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const { prompt, answer_bytes = 200 } = JSON.parse(await readBody(request)) as Completion;
  const { delayMs = 0, percent = 100 } = behaviour;
  // Spread evenly, so that a test of some requests meets some faults.
  counter += percent;
  const fault = counter % 100 < percent ? (behaviour.fault ?? "none") : "none";
  if (fault === "error") {
    send(response, 500, '{"error":"CUDA error"}');
    return;
  }
  if (fault === "reset") {
    request.socket.resetAndDestroy();
    return;
  }
  if (behaviour.hold === true) await new Promise<void>((resolve) => held.push(resolve));
  if (delayMs > 0) await wait(delayMs);
  if (prompt.includes("kill-the-server")) process.kill(process.pid, "SIGKILL");
  if (prompt.includes("fail-always")) send(response, 500, '{"error":"out of memory"}');
  else sendSpoilt(response, fault, answerTo(prompt, answer_bytes));
}

function sendSpoilt(
  response: ServerResponse,
  fault: Exclude<Behaviour["fault"], undefined>,
  body: string,
): void {
  const part = body.slice(0, body.length / 2);
  if (fault === "none" || fault === "cut") {
    send(response, 200, fault === "cut" ? part : body);
    return;
  }
  response.writeHead(200, {
    "content-type": "application/json",
    ...(fault === "truncate" && { "content-length": body.length }),
  });
  response.write(part, () => {
    if (fault === "truncate") response.socket?.end();
    else (response.socket as Socket | null)?.resetAndDestroy();
  });
}

function send(response: ServerResponse, status: number, body: string): void {
  response.writeHead(status, { "content-type": "application/json" });
  response.end(body);
}

async function serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
  if (request.url === "/health") send(response, 200, "{}");
  else if (request.url === "/metrics") send(response, 404, "{}");
  else if (request.url === "/behave") {
    behaviour = JSON.parse(await readBody(request)) as Behaviour;
    const waiting = held;
    held = [];
    for (const go of waiting) go();
    send(response, 200, "{}");
  } else {
    await complete(request, response);
  }
}

function main(port: number): void {
  const server = createServer((request, response) => {
    serve(request, response).catch(() => response.destroy());
  });
  server.keepAliveTimeout = 60_000;
  server.listen(port, "127.0.0.1", () => process.stdout.write("ready\n"));
  // As uvicorn does: what is in progress is finished.
  process.once("SIGTERM", () => {
    server.close(() => process.exit(0));
    server.closeIdleConnections();
  });
}

if (import.meta.main) main(Number(process.argv[2]));
