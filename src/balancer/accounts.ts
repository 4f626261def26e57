import type { Counts } from "./control.ts";

const zero: Counts = { answered: 0, refused: 0, prompt_tokens: 0, completion_tokens: 0 };

/** Counts of requests and tokens per account, and of all together. */
export class Accounts {
  readonly #byAccount = new Map<string, Counts>();
  #totals = zero;

  get totals(): Counts {
    return this.#totals;
  }

  add(account: string, status: number, body: Buffer): void {
    const ok = status >= 200 && status < 300;
    const usage = ok ? readUsage(body) : undefined;
    const one: Counts = {
      answered: ok ? 1 : 0,
      refused: ok ? 0 : 1,
      prompt_tokens: usage?.prompt_tokens ?? 0,
      completion_tokens: usage?.completion_tokens ?? 0,
    };
    this.#totals = sum(this.#totals, one);
    this.#byAccount.set(account, sum(this.#byAccount.get(account) ?? zero, one));
  }

  /** The counts of an account, which is forgotten. */
  settle(account: string): Counts {
    const counts = this.#byAccount.get(account) ?? zero;
    this.#byAccount.delete(account);
    return counts;
  }
}

function sum(a: Counts, b: Counts): Counts {
  return {
    answered: a.answered + b.answered,
    refused: a.refused + b.refused,
    prompt_tokens: a.prompt_tokens + b.prompt_tokens,
    completion_tokens: a.completion_tokens + b.completion_tokens,
  };
}

/** The two token counts of a completion's `usage` object, found without parsing the log-probabilities around it. */
function readUsage(body: Buffer): { prompt_tokens: number; completion_tokens: number } | undefined {
  const at = body.lastIndexOf('"usage"');
  if (at < 0) return undefined;
  const text = body.toString("latin1", at, at + 400);
  const number = (name: string): number =>
    Number(new RegExp(`"${name}"\\s*:\\s*(\\d+)`).exec(text)?.[1] ?? 0);
  return {
    prompt_tokens: number("prompt_tokens"),
    completion_tokens: number("completion_tokens"),
  };
}
