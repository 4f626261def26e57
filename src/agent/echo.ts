/**
 * What a server is asked to see whether it can score: a prompt that is always the same, the way lm_eval asks for
 * log-likelihoods (openai_completions.py, `_create_payload`), and what its answer has to hold (`parse_logprobs` there).
 */
import { parsePythonJson } from "../base/json.ts";

/** How the prompts of a unit go to its servers: `tokenized_requests` of model_args. */
export type PromptStyle = "tokens" | "text";

const letters = "Whatever is asked twice gets one answer";

/**
 * The probe, and what is asked between two of it: both begin alike, so that a server that keeps the work of one prompt for
 * the next has something to keep.
 */
export const echoPrompts = {
  probe: promptOf(letters),
  other: promptOf(`${letters.slice(0, 20)}${[...letters.slice(20)].reverse().join("")}`),
} as const;

interface EchoPrompt {
  readonly text: string;
  readonly tokens: readonly number[];
}

/**
 * Token ids without a tokenizer: those that printable characters have in byte-level vocabularies (GPT-2, Llama 3, Qwen), and
 * ids that every other vocabulary has as well.
 */
function promptOf(text: string): EchoPrompt {
  const printable = [...text].filter((letter) => letter !== " ");
  return { text, tokens: printable.map((letter) => letter.charCodeAt(0) - 33) };
}

/** Body of a scoring request. @param model undefined: nobody knows its name */
export function echoRequest(
  prompt: EchoPrompt,
  style: PromptStyle,
  model: string | undefined,
): string {
  return JSON.stringify({
    model,
    prompt: style === "tokens" ? [prompt.tokens] : [prompt.text],
    temperature: 0,
    max_tokens: 1,
    logprobs: 1,
    seed: 1234,
    echo: true,
  });
}

export type EchoAnswer =
  /** Of each token of the prompt but the first, which nothing precedes. */
  | { readonly kind: "scored"; readonly logprobs: readonly number[] }
  | { readonly kind: "useless"; readonly reason: string };

/** What an answer to `echoRequest` is worth. Pure; whatever the text is, it does not throw. */
export function judgeEcho(prompt: EchoPrompt, style: PromptStyle, body: string): EchoAnswer {
  let answer: unknown;
  try {
    answer = parsePythonJson(body);
  } catch {
    return useless("it answers with what is no JSON");
  }
  const [choice] = listOf(memberOf(answer, "choices")) ?? [];
  if (choice === undefined) return useless("its answer has no choices");
  const logprobs = memberOf(choice, "logprobs");
  const ofTokens = listOf(memberOf(logprobs, "token_logprobs"));
  if (ofTokens === undefined) {
    return useless("it gives no log-probabilities (logprobs.token_logprobs is not there)");
  }
  const told = memberOf(memberOf(answer, "usage"), "prompt_tokens");
  const nTokens = style === "tokens" ? prompt.tokens.length : told;
  // Of a text only the server knows how many tokens it has, and at least some.
  const expected = typeof nTokens === "number" ? nTokens + 1 : Math.max(ofTokens.length, 3);
  if (ofTokens.length !== expected) {
    const what = `${ofTokens.length} log-probabilities for ${expected - 1} tokens of a prompt and 1 that follows`;
    const why = ofTokens.length <= 1 ? ": it seems to ignore echo" : "";
    return useless(`it gives ${what}${why}`);
  }
  const inside = ofTokens.slice(1, -1);
  const wrong = inside.findIndex((value) => !Number.isFinite(value));
  if (wrong >= 0) {
    const n = inside.filter((value) => !Number.isFinite(value)).length;
    return useless(
      `${n} of its ${inside.length} log-probabilities of a prompt are no numbers (the first is ${inside[wrong]})`,
    );
  }
  const likeliest = listOf(memberOf(logprobs, "top_logprobs"));
  if (likeliest?.length !== expected || !likeliest.slice(1, -1).every(holdsNumbers)) {
    return useless(
      "it does not tell the likeliest token at each place (logprobs.top_logprobs), which lm_eval compares with",
    );
  }
  return { kind: "scored", logprobs: inside as number[] };
}

/** Mean absolute difference in nats per token; null when the numbers of tokens differ. */
export function differenceOf(some: readonly number[], others: readonly number[]): number | null {
  if (some.length !== others.length || some.length === 0) return null;
  const sum = some.reduce((total, one, at) => total + Math.abs(one - (others[at] as number)), 0);
  return sum / some.length;
}

function useless(reason: string): EchoAnswer {
  return { kind: "useless", reason };
}

function holdsNumbers(value: unknown): boolean {
  if (typeof value !== "object" || value === null) return false;
  const numbers = Object.values(value);
  return (
    numbers.length > 0 && numbers.every((one) => typeof one === "number" && !Number.isNaN(one))
  );
}

function memberOf(value: unknown, name: string): unknown {
  return typeof value === "object" && value !== null
    ? (value as Record<string, unknown>)[name]
    : undefined;
}

function listOf(value: unknown): readonly unknown[] | undefined {
  return Array.isArray(value) ? value : undefined;
}
