import type { Engine } from "./control.ts";

/** Figures of one reading; tokens since the server's start. */
export interface EngineReading {
  readonly running: number;
  readonly waiting: number;
  readonly cacheUse: number | undefined;
  readonly promptTokens: number;
  readonly completionTokens: number;
}

/** What vLLM and SGLang call them; the first name that is there counts. */
const names = {
  running: ["vllm:num_requests_running", "sglang:num_running_reqs"],
  waiting: ["vllm:num_requests_waiting", "sglang:num_queue_reqs"],
  cacheUse: ["vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc", "sglang:token_usage"],
  promptTokens: ["vllm:prompt_tokens_total", "sglang:prompt_tokens_total"],
  completionTokens: ["vllm:generation_tokens_total", "sglang:generation_tokens_total"],
} as const;

/** Reads the page that Prometheus would read. Undefined when it is of a program that we do not know. Pure. */
export function readEngine(page: string): EngineReading | undefined {
  const series = new Map<string, number[]>();
  for (const line of page.split("\n")) {
    const match = samplePattern.exec(line);
    if (match === null) continue;
    const [, name, value] = match as unknown as [string, string, string];
    const values = series.get(name);
    if (values === undefined) series.set(name, [Number(value)]);
    else values.push(Number(value));
  }
  const valuesOf = (figure: keyof typeof names): number[] | undefined =>
    names[figure].map((name) => series.get(name)).find((values) => values !== undefined);
  const running = valuesOf("running");
  if (running === undefined) return undefined;
  const cacheUse = valuesOf("cacheUse");
  return {
    // One series for each engine that the server has.
    running: sum(running),
    waiting: sum(valuesOf("waiting") ?? []),
    cacheUse: cacheUse === undefined ? undefined : sum(cacheUse) / cacheUse.length,
    promptTokens: sum(valuesOf("promptTokens") ?? []),
    completionTokens: sum(valuesOf("completionTokens") ?? []),
  };
}

const samplePattern = /^((?:vllm|sglang):\w+)(?:\{(?:[^"}]|"(?:\\.|[^"\\])*")*\})? ([-+0-9.eE]+)/;

/** Two readings tell how fast tokens pass; the first one alone tells nothing of it. Pure. */
export function engineBetween(
  earlier: { readonly reading: EngineReading; readonly at: number } | undefined,
  { reading, at }: { readonly reading: EngineReading; readonly at: number },
): Engine {
  const seconds = earlier === undefined ? 0 : (at - earlier.at) / 1000;
  const rate = (figure: "promptTokens" | "completionTokens"): number | null => {
    if (earlier === undefined || seconds <= 0) return null;
    const more = reading[figure] - earlier.reading[figure];
    // It has started anew in between.
    return more < 0 ? null : Number((more / seconds).toFixed(1));
  };
  return {
    running: reading.running,
    waiting: reading.waiting,
    cache_use: reading.cacheUse === undefined ? null : Number(reading.cacheUse.toFixed(4)),
    prompt_tokens_per_s: rate("promptTokens"),
    completion_tokens_per_s: rate("completionTokens"),
  };
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
