/** What requests of one account, or at one server, came to. What is added to it is added to the whole that it is a part of. */
export class Tally {
  readonly #whole: Tally | undefined;
  /** Answered with 2xx by a server. */
  answered = 0;
  /** Answered with anything else. */
  refused = 0;
  /** Answered from a journal, without any server. */
  replayed = 0;
  /** Their clients went before they were answered, or did not get all of the answer. */
  abandoned = 0;
  /** Attempts beyond the first. */
  retries = 0;
  /** From `usage`; null until an answer has one. */
  promptTokens: number | null = null;
  completionTokens: number | null = null;
  /** Waiting for a server, and at a server: sums over all attempts. */
  queueMs = 0;
  serviceMs = 0;

  constructor(whole?: Tally) {
    this.#whole = whole;
  }

  addAnswer(status: number, usage: Usage | undefined): void {
    if (status < 200 || status > 299) this.refused += 1;
    else this.answered += 1;
    if (usage !== undefined) {
      this.promptTokens = (this.promptTokens ?? 0) + usage.promptTokens;
      this.completionTokens = (this.completionTokens ?? 0) + usage.completionTokens;
    }
    this.#whole?.addAnswer(status, usage);
  }

  addReplayed(): void {
    this.replayed += 1;
    this.#whole?.addReplayed();
  }

  addAbandoned(): void {
    this.abandoned += 1;
    this.#whole?.addAbandoned();
  }

  addRetry(): void {
    this.retries += 1;
    this.#whole?.addRetry();
  }

  addTimes(queueMs: number, serviceMs: number): void {
    this.queueMs += queueMs;
    this.serviceMs += serviceMs;
    this.#whole?.addTimes(queueMs, serviceMs);
  }
}

export interface Usage {
  readonly promptTokens: number;
  readonly completionTokens: number;
}

/** `usage` comes after the choices; what servers append to it is short. */
const tailBytes = 2048;
/** The two counts follow soon, in any order. */
const usageBytes = 256;

/** The token counts of a completion, looked for at its end: the log-probabilities before it are not parsed. */
export function readUsage(chunks: readonly Buffer[]): Usage | undefined {
  const tail = tailOf(chunks);
  const at = tail?.lastIndexOf('"usage"') ?? -1;
  if (tail === undefined || at < 0) return undefined;
  const text = tail.toString("latin1", at, at + usageBytes);
  const promptTokens = readCount(text, promptTokensPattern);
  if (promptTokens === undefined) return undefined;
  return { promptTokens, completionTokens: readCount(text, completionTokensPattern) ?? 0 };
}

const promptTokensPattern = /"prompt_tokens"\s*:\s*(\d{1,15})/;
const completionTokensPattern = /"completion_tokens"\s*:\s*(\d{1,15})/;

function readCount(text: string, pattern: RegExp): number | undefined {
  const digits = pattern.exec(text)?.[1];
  return digits === undefined ? undefined : Number(digits);
}

function tailOf(chunks: readonly Buffer[]): Buffer | undefined {
  const last = chunks.at(-1);
  if (last === undefined) return undefined;
  if (chunks.length === 1 || last.length >= tailBytes) return last.subarray(-tailBytes);
  return Buffer.concat(chunks.slice(-2)).subarray(-tailBytes);
}
