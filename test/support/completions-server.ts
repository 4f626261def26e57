/**
 * An OpenAI completions server without a model, as a program of its own: equal requests always get equal answers, and each
 * log-probability is a hash of all token ids up to it, so that a score changes when any token of a prompt does.
 *
 *     node test/support/completions-server.ts --port 8000 --delay-ms 20 --fail-first 3
 *
 * Every flag may also be given as an environment variable: EH_PORT, MOCK_DELAY_MS and so on. It prints one line of JSON,
 * `{"port": …}`, once it listens; port 0 takes a free one. Ends on SIGTERM and SIGINT.
 *
 * What eval-hive asks before the first request of an evaluation is answered at once, and neither counted nor logged: faults
 * are for evaluations.
 */
import { createHash } from "node:crypto";
import { appendFileSync, existsSync } from "node:fs";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { setTimeout as wait } from "node:timers/promises";
import { parseArgs } from "node:util";

interface Settings {
  readonly port: number;
  readonly host: string;
  /** What /v1/models names. */
  readonly model: string;
  /** Before each answer. */
  readonly delayMs: number;
  /** /health and completions answer 503 until then, counted from the start. */
  readonly readyAfterMs: number;
  /** This many completions are answered with 500 first. */
  readonly failFirst: number;
  /** Completions whose prompt holds this text (bytes as ids) are answered with 500, always. */
  readonly failOn: string;
  /** This many completions get JSON that ends in the middle. */
  readonly truncateFirst: number;
  /** Log-probabilities are null, as of servers that cannot score. */
  readonly nullLogprobs: boolean;
  /** The process kills itself with SIGKILL instead of answering completion number n. */
  readonly dieAt: number;
  /** One line per completions request: {path, prompts, max_tokens, at}. */
  readonly requestLog: string;
  /** One line per completions request, as it came: path, type, authorization, body. */
  readonly bodyLog: string;
  /** Completions wait as long as there is a file of this name; /stats tells their prompts. */
  readonly holdWhile: string;
}

type Prompt = readonly number[];

interface CompletionRequest {
  readonly prompt: string | string[] | number[] | number[][];
  readonly max_tokens?: number;
  readonly echo?: boolean;
  readonly logprobs?: number | null;
  readonly stop?: string | string[] | null;
  readonly model?: string;
}

/** `--name` or the environment variable, else the default. */
function readSettings(argv: string[], env: NodeJS.ProcessEnv): Settings {
  const names = [
    "port",
    "host",
    "model",
    "delay-ms",
    "ready-after-ms",
    "fail-first",
    "fail-on",
    "truncate-first",
    "null-logprobs",
    "die-at",
    "request-log",
    "body-log",
    "hold-while",
  ] as const;
  const { values } = parseArgs({
    args: argv,
    options: Object.fromEntries(names.map((name) => [name, { type: "string" as const }])),
  });
  const text = (name: (typeof names)[number], fallback: string): string => {
    const variable =
      name === "port" ? "EH_PORT" : `MOCK_${name.replaceAll("-", "_").toUpperCase()}`;
    return (values[name] as string | undefined) ?? env[variable] ?? fallback;
  };
  return {
    port: Number(text("port", "0")),
    host: text("host", "127.0.0.1"),
    model: text("model", env.EH_MODEL_PATH ?? "mock"),
    delayMs: Number(text("delay-ms", "0")),
    readyAfterMs: Number(text("ready-after-ms", "0")),
    failFirst: Number(text("fail-first", "0")),
    failOn: text("fail-on", ""),
    truncateFirst: Number(text("truncate-first", "0")),
    nullLogprobs: text("null-logprobs", "") === "1",
    dieAt: Number(text("die-at", "0")),
    requestLog: text("request-log", ""),
    bodyLog: text("body-log", ""),
    holdWhile: text("hold-while", ""),
  };
}

/** A prompt as a string, strings, ids or lists of ids. Text is taken byte by byte. */
function parsePrompts(prompt: CompletionRequest["prompt"]): Prompt[] {
  if (typeof prompt === "string") return [[...Buffer.from(prompt)]];
  if (prompt.length > 0 && typeof prompt[0] === "number") return [prompt as number[]];
  return (prompt as (string | number[])[]).map((one) =>
    typeof one === "string" ? [...Buffer.from(one)] : one,
  );
}

/** The text of a prompt whose ids are bytes. */
function spell(ids: Prompt): string {
  return Buffer.from(ids).toString();
}

function digestOf(ids: Prompt): Buffer {
  return createHash("sha256").update(ids.join(",")).digest();
}

interface Scored {
  readonly tokenLogprobs: (number | null)[];
  readonly topLogprobs: (Record<string, number> | null)[];
}

/** Log-probability of each token given those before it; about half of them are the likeliest. */
function score(ids: Prompt, settings: Settings): Scored {
  const tokenLogprobs: (number | null)[] = [];
  const topLogprobs: (Record<string, number> | null)[] = [];
  const running = createHash("sha256");
  ids.forEach((id, position) => {
    running.update(`${id},`);
    if (position === 0 || settings.nullLogprobs) {
      tokenLogprobs.push(null);
      topLogprobs.push(null);
      return;
    }
    const digest = running.copy().digest();
    const logprob = -0.01 - digest.readUInt32BE(0) / 2 ** 30;
    const best = digest[4] !== undefined && digest[4] < 128 ? logprob : logprob / 2;
    tokenLogprobs.push(logprob);
    topLogprobs.push({ [`<${id}>`]: logprob, "<best>": best });
  });
  return { tokenLogprobs, topLogprobs };
}

const alphabet = "0123456789abcdefghij ABC\nXY.é";

/** Up to `maxTokens` characters that depend on the prompt alone, cut before the first stop text. */
function generate(ids: Prompt, maxTokens: number, stops: readonly string[]): string {
  const letters = [...alphabet];
  let text = "";
  for (let block = 0; text.length < maxTokens; block++) {
    for (const byte of digestOf([...ids, -block])) text += letters[byte % letters.length];
  }
  text = [...text].slice(0, maxTokens).join("");
  const ends = stops.map((stop) => text.indexOf(stop)).filter((end) => end >= 0);
  return ends.length === 0 ? text : text.slice(0, Math.min(...ends));
}

function complete(request: CompletionRequest, prompts: Prompt[], settings: Settings): unknown {
  const maxTokens = request.max_tokens ?? 16;
  const stops = [request.stop ?? []].flat().filter((stop) => stop !== "");
  const choices = prompts.map((ids, index) => {
    const text = generate(ids, maxTokens, stops);
    if (request.logprobs === undefined || request.logprobs === null) {
      return { index, text, finish_reason: "length" };
    }
    // As vLLM does: the prompt's tokens, then the generated one.
    const { tokenLogprobs, topLogprobs } = score([...ids, 0], settings);
    const from = request.echo === true ? 0 : ids.length;
    const logprobs = {
      token_logprobs: tokenLogprobs.slice(from),
      top_logprobs: topLogprobs.slice(from),
    };
    return { index, text, logprobs, finish_reason: "length" };
  });
  const promptTokens = prompts.reduce((sum, ids) => sum + ids.length, 0);
  const usage = {
    prompt_tokens: promptTokens,
    completion_tokens: prompts.length * maxTokens,
    total_tokens: promptTokens + prompts.length * maxTokens,
  };
  return { id: "cmpl-mock", object: "text_completion", model: settings.model, choices, usage };
}

async function readBody(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString("utf8");
}

function isProbe(request: IncomingMessage): boolean {
  return request.headers["user-agent"] === "eval-hive-probe";
}

function answer(response: ServerResponse, status: number, body: string): void {
  response.writeHead(status, { "content-type": "application/json" });
  response.end(body);
}

function startServer(settings: Settings): void {
  const startedAt = performance.now();
  let completions = 0;
  let prompts = 0;
  let atWork = 0;
  let mostAtOnce = 0;
  const held = new Set<Prompt[]>();
  const missed: string[] = [];
  const ready = () => performance.now() - startedAt >= settings.readyAfterMs;

  async function answerCompletion(
    request: IncomingMessage,
    response: ServerResponse,
  ): Promise<void> {
    const body = await readBody(request);
    const parsed = JSON.parse(body) as CompletionRequest;
    const ids = parsePrompts(parsed.prompt);
    if (isProbe(request)) {
      return answer(response, 200, JSON.stringify(complete(parsed, ids, settings)));
    }
    const number = ++completions;
    prompts += ids.length;
    if (settings.requestLog !== "") {
      const line = { path: request.url, ...parsed, at: Date.now() };
      appendFileSync(settings.requestLog, `${JSON.stringify(line)}\n`);
    }
    if (settings.bodyLog !== "") {
      const { "content-type": type, authorization } = request.headers;
      appendFileSync(settings.bodyLog, `${request.url} ${type} ${authorization} ${body}\n`);
    }
    if (settings.delayMs > 0) await wait(settings.delayMs);
    held.add(ids);
    const { holdWhile } = settings;
    while (holdWhile !== "" && existsSync(holdWhile) && !response.closed) await wait(30);
    held.delete(ids);
    if (number === settings.dieAt) process.kill(process.pid, "SIGKILL");
    if (!ready()) return answer(response, 503, `{"error":"loading"}`);
    if (number <= settings.failFirst) return answer(response, 500, `{"error":"mock failure"}`);
    const wanted = settings.failOn;
    if (wanted !== "" && ids.some((one) => Buffer.from(one).includes(wanted))) {
      return answer(response, 500, `{"error":"mock refuses this prompt"}`);
    }
    const text = JSON.stringify(complete(parsed, ids, settings));
    answer(response, 200, number <= settings.truncateFirst ? text.slice(0, text.length / 2) : text);
  }

  const server = createServer((request, response) => {
    const path = (request.url ?? "/").split("?")[0] ?? "/";
    if (request.method === "POST" && path.endsWith("/completions")) {
      if (!isProbe(request)) mostAtOnce = Math.max(mostAtOnce, ++atWork);
      answerCompletion(request, response)
        .catch((error: unknown) => answer(response, 400, JSON.stringify({ error: String(error) })))
        .finally(() => {
          if (!isProbe(request)) atWork -= 1;
        });
    } else if (path === "/health") {
      answer(response, ready() ? 200 : 503, "{}");
    } else if (path === "/v1/models") {
      answer(response, 200, JSON.stringify({ object: "list", data: [{ id: settings.model }] }));
    } else if (path === "/stats") {
      answer(
        response,
        200,
        JSON.stringify({
          completions,
          prompts,
          missed,
          mostAtOnce,
          held: [...held].flat().map(spell),
        }),
      );
    } else {
      missed.push(path);
      answer(response, 404, `{"error":"no such path"}`);
    }
  });
  // aiohttp keeps idle sockets for 15 s: a server that closes them sooner causes resets that no test asked for.
  server.keepAliveTimeout = 60_000;
  server.listen(settings.port, settings.host, () => {
    const { port } = server.address() as AddressInfo;
    process.stdout.write(`${JSON.stringify({ port })}\n`);
  });
  for (const signal of ["SIGTERM", "SIGINT"] as const) {
    process.once(signal, () => {
      server.close(() => process.exit(0));
      server.closeAllConnections();
    });
  }
}

if (import.meta.main) startServer(readSettings(process.argv.slice(2), process.env));
