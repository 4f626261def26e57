import { type Clock, systemClock } from "../base/clock.ts";
import { messageOf } from "../base/errors.ts";
import { differenceOf, echoPrompts, echoRequest, judgeEcho, type PromptStyle } from "./echo.ts";
import type { HowToAsk } from "./node-protocol.ts";

/** What a healthy server is good for. */
export type Examination =
  | {
      readonly kind: "fit";
      /** It calls its model otherwise, but answers requests for ours. */
      readonly warning?: string;
      /** Its log-probabilities of the probe, where they were asked for. */
      readonly echo?: readonly number[];
      /**
       * Nats per token between two answers to the probe, if that is much: what was asked in between counts. null: they differ
       * in the number of tokens.
       */
      readonly unsteady?: number | null;
    }
  /** It will answer no other way however often it is started. */
  | { readonly kind: "unfit"; readonly reason: string }
  /** It does not answer: another start may help. */
  | { readonly kind: "failing"; readonly reason: string };

export interface ExaminedServer {
  /** `http://host:port` */
  readonly url: string;
  /** What requests will call the model; null: nobody knows. */
  readonly model: string | null;
  /** At /v1/models; undefined: it has no such list. */
  readonly names: readonly string[] | undefined;
  /** OPENAI_API_KEY of its environment, which is the harness's, too. */
  readonly apiKey: string;
  readonly ask: HowToAsk | undefined;
}

export interface ExaminationTimes {
  /** Of one question: the first one may have to wait for kernels to be compiled. */
  readonly questionMs: number;
  /** No question begins later. */
  readonly allMs: number;
  readonly pauseMs: number;
}

const usualTimes: ExaminationTimes = { questionMs: 300_000, allMs: 300_000, pauseMs: 1_000 };
/** Answers 500 to one question, before that is its answer. */
const maxErrors = 3;
/** Two answers to the same question should be equal: a kernel that rounds otherwise stays far below. */
const unsteadyNats = 0.1;

/**
 * Asks a server that has just become healthy what requests will ask it. It takes a bounded time.
 * @throws the signal's reason when it aborts.
 */
export async function examineServer(
  server: ExaminedServer,
  signal: AbortSignal,
  { clock = systemClock, ...given }: Partial<ExaminationTimes> & { readonly clock?: Clock } = {},
): Promise<Examination> {
  const { ask, model, names } = server;
  const times = { ...usualTimes, ...given };
  const patience = { ...times, deadline: clock.monotonic() + times.allMs, clock, signal };
  const misnamed =
    model !== null && isOtherModel(model, names) ? describeNames(model, names ?? []) : undefined;
  const warning = misnamed === undefined ? {} : { warning: misnamed };
  if (ask === undefined || (ask.echo === null && misnamed === undefined)) {
    return { kind: "fit", ...warning };
  }
  const found =
    ask.echo === null
      ? await seeWhetherItAnswers(server, ask, patience)
      : await seeWhetherItScores(server, ask.echo, patience);
  switch (found.kind) {
    case "fit":
      // Not all look at names: those that do refuse all that is to come.
      return { ...found, ...warning };
    case "refused": {
      const isForItsName = misnamed !== undefined && found.status < 500;
      const reason = isForItsName ? `${misnamed}, and ${found.reason}; ${oneName}` : found.reason;
      return { kind: "unfit", reason };
    }
    default:
      return found;
  }
}

const oneName =
  "write the same name into eval.model_args.model, or tell the server its name in inference_server_command (vLLM: --served-model-name)";

type Finding = Examination | Exclude<Reply, { kind: "answered" }>;

async function seeWhetherItAnswers(
  server: ExaminedServer,
  ask: HowToAsk,
  patience: Patience,
): Promise<Finding> {
  const body = shortRequest(ask, server.model ?? undefined);
  const reply = await askUntilAnswered(server, body, patience);
  return reply.kind === "answered" ? { kind: "fit" } : reply;
}

async function seeWhetherItScores(
  server: ExaminedServer,
  style: PromptStyle,
  patience: Patience,
): Promise<Finding> {
  const { probe, other } = echoPrompts;
  const name = server.model ?? server.names?.[0];
  const answers: (readonly number[])[] = [];
  for (const prompt of [probe, other, probe]) {
    const reply = await askUntilAnswered(server, echoRequest(prompt, style, name), patience);
    if (reply.kind !== "answered") return reply;
    const answer = judgeEcho(prompt, style, reply.text);
    if (answer.kind === "useless") {
      const reason = `log-likelihoods can't be had from it: asked with echo and logprobs, ${answer.reason}`;
      return { kind: "unfit", reason };
    }
    answers.push(answer.logprobs);
  }
  const [echo = [], , again = []] = answers;
  const difference = differenceOf(echo, again);
  const isUnsteady = difference === null || difference > unsteadyNats;
  return { kind: "fit", echo, ...(isUnsteady && { unsteady: difference }) };
}

/**
 * True when /v1/models tells that a server is another one than ours. A server whose socket is known to be ours may call its
 * model what it likes, as long as it answers. Pure.
 */
export function isOtherModel(model: string | null, names: readonly string[] | undefined): boolean {
  return model !== null && names !== undefined && !names.includes(model);
}

/** Both names, and where ours comes from. */
export function describeNames(model: string, names: readonly string[]): string {
  const served = names.map((name) => `"${name}"`).join(", ");
  return `requests ask for model "${model}" (eval.model_args.model), /v1/models names ${served || "none"}`;
}

/** The least that can be asked for. */
function shortRequest({ kind }: HowToAsk, model: string | undefined): string {
  const prompt =
    kind === "chat" ? { messages: [{ role: "user", content: "Hello" }] } : { prompt: "Hello" };
  return JSON.stringify({ model, ...prompt, max_tokens: 1, temperature: 0 });
}

type Reply =
  | { readonly kind: "answered"; readonly text: string }
  | { readonly kind: "refused"; readonly status: number; readonly reason: string }
  | { readonly kind: "failing"; readonly reason: string };

interface Patience extends ExaminationTimes {
  readonly deadline: number;
  readonly clock: Clock;
  readonly signal: AbortSignal;
}

async function askUntilAnswered(
  server: ExaminedServer,
  body: string,
  patience: Patience,
): Promise<Reply> {
  const { clock, deadline, pauseMs, signal } = patience;
  const path = server.ask?.path ?? "/";
  for (let errors = 0; ; ) {
    const answer = await post(server, body, patience);
    if (answer.kind === "silent") return { kind: "failing", reason: answer.reason };
    if (answer.kind === "answer") {
      const { status, text } = answer;
      if (status >= 200 && status < 300) return { kind: "answered", text };
      if (status >= 500 && !isBusy(status)) errors += 1;
      if (!isBusy(status) && (status < 500 || errors >= maxErrors)) {
        return { kind: "refused", status, reason: `${path} answers ${status}${excerpt(text)}` };
      }
    }
    if (clock.monotonic() >= deadline) {
      const reason =
        answer.kind === "answer"
          ? `${path} answers ${answer.status}${excerpt(answer.text)}`
          : answer.reason;
      return { kind: "failing", reason };
    }
    await clock.sleep(pauseMs, signal);
  }
}

/** "Not now." */
function isBusy(status: number): boolean {
  return [408, 425, 429, 502, 503, 504].includes(status);
}

type Answer =
  | { readonly kind: "answer"; readonly status: number; readonly text: string }
  | { readonly kind: "lost" | "silent"; readonly reason: string };

async function post(
  { url, apiKey, ask }: ExaminedServer,
  body: string,
  { questionMs, signal }: Patience,
): Promise<Answer> {
  const path = ask?.path ?? "/";
  const over = AbortSignal.timeout(questionMs);
  try {
    const response = await fetch(`${url}${path}`, {
      method: "POST",
      body,
      headers: {
        ...(ask?.headers ?? { authorization: `Bearer ${apiKey}` }),
        "content-type": "application/json",
        "user-agent": probeAgent,
      },
      signal: AbortSignal.any([signal, over]),
    });
    return { kind: "answer", status: response.status, text: await response.text() };
  } catch (error) {
    signal.throwIfAborted();
    if (over.aborted) {
      const reason = `${path} gave no answer to a short request within ${questionMs / 1000} s`;
      return { kind: "silent", reason };
    }
    const cause = error instanceof Error && error.cause !== undefined ? error.cause : error;
    return { kind: "lost", reason: `${path} does not answer: ${messageOf(cause)}` };
  }
}

/** How a server's log tells our questions from those of an evaluation. */
const probeAgent = "eval-hive-probe";

/** What a server says to a request that it refuses: OpenAI's `error.message`, else the beginning of the text. */
function excerpt(text: string): string {
  let message = text;
  try {
    const { error, message: plain } = JSON.parse(text) as {
      error?: { message?: unknown } | string;
      message?: unknown;
    };
    const told = typeof error === "object" ? error?.message : (error ?? plain);
    if (typeof told === "string") message = told;
  } catch {
    // An HTML page, or nothing.
  }
  const line = message.replaceAll(/\s+/g, " ").trim().slice(0, 300);
  return line === "" ? "" : `: ${line}`;
}
