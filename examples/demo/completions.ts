import { endOfText, vocabularySize } from "./context-tree.ts";
import type { NgramModel } from "./ngram-model.ts";
import { openRandom } from "./random.ts";

/** The client asked for something that we do not understand. */
export class RequestError extends Error {}

/** What was asked, with OpenAI's defaults filled in. */
interface CompletionRequest {
  readonly prompts: readonly (readonly number[])[];
  readonly maxTokens: number;
  readonly temperature: number;
  readonly stop: readonly Buffer[];
  readonly echo: boolean;
  /** How many of the likeliest tokens to tell at each place; undefined: no log-probabilities at all. */
  readonly logprobs: number | undefined;
  readonly seed: number;
}

interface Logprobs {
  readonly tokens: readonly string[];
  readonly token_logprobs: readonly (number | null)[];
  readonly top_logprobs: readonly (Readonly<Record<string, number>> | null)[];
  /** Where in the text each token starts, in UTF-16 units. */
  readonly text_offset: readonly number[];
}

interface Choice {
  readonly index: number;
  readonly text: string;
  readonly finish_reason: "stop" | "length";
  readonly logprobs: Logprobs | null;
}

interface Completion {
  readonly id: string;
  readonly object: "text_completion";
  readonly created: number;
  readonly choices: readonly Choice[];
  readonly usage: {
    readonly prompt_tokens: number;
    readonly completion_tokens: number;
    readonly total_tokens: number;
  };
}

/** @throws RequestError when the body is no completions request. */
export function parseRequest(body: string): CompletionRequest {
  const given = parseObject(body);
  const stop = given["stop"] ?? [];
  const stops = typeof stop === "string" ? [stop] : stop;
  if (!Array.isArray(stops) || stops.some((one) => typeof one !== "string")) {
    throw new RequestError("stop must be a string or a list of strings");
  }
  const logprobs = given["logprobs"];
  return {
    prompts: parsePrompts(given["prompt"]),
    maxTokens: parseNumber(given, "max_tokens", 16),
    temperature: parseNumber(given, "temperature", 1),
    stop: stops.filter((one) => one !== "").map((one) => Buffer.from(one)),
    echo: given["echo"] === true,
    logprobs:
      logprobs === undefined || logprobs === null || logprobs === false
        ? undefined
        : Math.min(parseNumber(given, "logprobs", 0), vocabularySize),
    seed: parseNumber(given, "seed", 0),
  };
}

function parseObject(body: string): Record<string, unknown> {
  let given: unknown;
  try {
    given = JSON.parse(body);
  } catch (error) {
    throw new RequestError(`the body is not JSON: ${(error as Error).message}`);
  }
  if (typeof given === "object" && given !== null) return given as Record<string, unknown>;
  throw new RequestError("the body is not a JSON object");
}

function parseNumber(given: Record<string, unknown>, key: string, fallback: number): number {
  const value = given[key] ?? fallback;
  if (typeof value === "number" && value >= 0) return value;
  throw new RequestError(`${key} must be a number of at least 0`);
}

function parsePrompts(prompt: unknown): number[][] {
  if (typeof prompt === "string") return [[...Buffer.from(prompt)]];
  if (!Array.isArray(prompt) || prompt.length === 0) {
    throw new RequestError(
      "prompt must be a string, a list of strings, a list of token ids or a list of such lists",
    );
  }
  if (typeof prompt[0] === "number") return [parseIds(prompt)];
  return prompt.map((one) => (typeof one === "string" ? [...Buffer.from(one)] : parseIds(one)));
}

function parseIds(ids: unknown): number[] {
  const isId = (id: unknown) =>
    Number.isInteger(id) && (id as number) >= 0 && (id as number) < vocabularySize;
  if (Array.isArray(ids) && ids.every(isId)) return ids as number[];
  throw new RequestError(`token ids must be integers from 0 to ${vocabularySize - 1}`);
}

/** The model's answer: prompt after prompt, each on its own. */
export function complete(request: CompletionRequest, model: NgramModel): Completion {
  let promptTokens = 0;
  let completionTokens = 0;
  const choices = request.prompts.map((prompt, index): Choice => {
    const { tokens, textEnd, reason } = generate(prompt, request, model);
    promptTokens += prompt.length;
    completionTokens += tokens.length - prompt.length;
    const from = request.echo ? 0 : prompt.length;
    return {
      index,
      text: decode(tokens.slice(from, textEnd)),
      finish_reason: reason,
      logprobs:
        request.logprobs === undefined ? null : tellLogprobs(tokens, from, request.logprobs, model),
    };
  });
  return {
    id: "cmpl-demo",
    object: "text_completion",
    created: Math.floor(Date.now() / 1000),
    choices,
    usage: {
      prompt_tokens: promptTokens,
      completion_tokens: completionTokens,
      total_tokens: promptTokens + completionTokens,
    },
  };
}

interface Generated {
  /** The prompt and what follows it. */
  readonly tokens: readonly number[];
  /** Tokens from here on are not text to show: a stop text, or the end of the text. */
  readonly textEnd: number;
  readonly reason: Choice["finish_reason"];
}

function generate(
  prompt: readonly number[],
  request: CompletionRequest,
  model: NgramModel,
): Generated {
  const random = openRandom(request.seed);
  const tokens = [...prompt];
  while (tokens.length < prompt.length + request.maxTokens) {
    const next = chooseToken(
      model.predict(tokens, tokens.length),
      request.temperature,
      random.below(2 ** 32) / 2 ** 32,
    );
    tokens.push(next);
    if (next === endOfText) return { tokens, textEnd: tokens.length - 1, reason: "stop" };
    const stop = request.stop.find((text) => endsWith(tokens, text, prompt.length));
    if (stop !== undefined) return { tokens, textEnd: tokens.length - stop.length, reason: "stop" };
  }
  return { tokens, textEnd: tokens.length, reason: "length" };
}

/** The likeliest token at temperature 0, else the one that `draw`, from 0 to 1, falls upon. */
function chooseToken(probabilities: Float64Array, temperature: number, draw: number): number {
  const best = likeliest(probabilities);
  if (temperature === 0) return best;
  const peak = probabilities[best] as number;
  const weights = probabilities.map((one) => (one / peak) ** (1 / temperature));
  let left = draw * weights.reduce((sum, one) => sum + one, 0);
  for (let token = 0; token < weights.length; token++) {
    left -= weights[token] as number;
    if (left < 0) return token;
  }
  return best;
}

function endsWith(tokens: readonly number[], text: Buffer, from: number): boolean {
  const start = tokens.length - text.length;
  return start >= from && text.every((byte, index) => tokens[start + index] === byte);
}

function tellLogprobs(
  all: readonly number[],
  from: number,
  top: number,
  model: NgramModel,
): Logprobs {
  const tokens: string[] = [];
  const tokenLogprobs: (number | null)[] = [];
  const topLogprobs: (Record<string, number> | null)[] = [];
  const offsets: number[] = [];
  let offset = 0;
  for (let at = from; at < all.length; at++) {
    const token = all[at] as number;
    tokens.push(tokenNames[token] as string);
    offsets.push(offset);
    offset += lengthInText(token);
    if (at === 0) {
      tokenLogprobs.push(null);
      topLogprobs.push(null);
      continue;
    }
    const probabilities = model.predict(all, at);
    tokenLogprobs.push(logprob(probabilities, token));
    topLogprobs.push(top === 0 ? {} : tellTop(probabilities, token, top));
  }
  return { tokens, token_logprobs: tokenLogprobs, top_logprobs: topLogprobs, text_offset: offsets };
}

/** The `top` likeliest tokens, and the one that is there, as vLLM does. */
function tellTop(probabilities: Float64Array, token: number, top: number): Record<string, number> {
  const chosen =
    top === 1 ? [likeliest(probabilities)] : likeliestFirst(probabilities).slice(0, top);
  if (!chosen.includes(token)) chosen.push(token);
  return Object.fromEntries(chosen.map((one) => [tokenNames[one], logprob(probabilities, one)]));
}

function likeliest(probabilities: Float64Array): number {
  let best = 0;
  for (let token = 1; token < probabilities.length; token++) {
    if ((probabilities[token] as number) > (probabilities[best] as number)) best = token;
  }
  return best;
}

function likeliestFirst(probabilities: Float64Array): number[] {
  const byProbability = (a: number, b: number) =>
    (probabilities[b] as number) - (probabilities[a] as number);
  return Array.from(probabilities, (_, token) => token).sort(byProbability);
}

/** Natural logarithm to seven places, which keeps answers short. */
function logprob(probabilities: Float64Array, token: number): number {
  return Math.round(Math.log(probabilities[token] as number) * 1e7) / 1e7;
}

/** A byte that is no character of its own is named as OpenAI does. */
const tokenNames: readonly string[] = Array.from({ length: vocabularySize }, (_, token) => {
  if (token === endOfText) return "<|endoftext|>";
  return token < 128 ? String.fromCharCode(token) : `bytes:\\x${token.toString(16)}`;
});

function decode(tokens: readonly number[]): string {
  return Buffer.from(tokens.filter((token) => token !== endOfText)).toString("utf8");
}

/** UTF-16 units that a byte adds to the text: a character counts where it starts. */
function lengthInText(token: number): number {
  if (token === endOfText || (token >= 0x80 && token < 0xc0)) return 0;
  return token >= 0xf0 ? 2 : 1;
}
