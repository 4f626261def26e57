import { createHash } from "node:crypto";
import type { Clock } from "../base/clock.ts";
import type { ForwardRequest } from "./request.ts";

/** Requests that killed their servers, remembered by their content: clients send what failed again. */
export class Convicts {
  readonly #clock: Clock;
  readonly #forMs: number;
  readonly #until = new Map<string, number>();

  constructor(clock: Clock, forMs: number) {
    this.#clock = clock;
    this.#forMs = forMs;
  }

  add(request: ForwardRequest): void {
    this.#until.set(digestOf(request), this.#clock.monotonic() + this.#forMs);
  }

  has(request: ForwardRequest): boolean {
    const now = this.#clock.monotonic();
    for (const [digest, until] of this.#until) if (until <= now) this.#until.delete(digest);
    // The usual case costs no hash.
    return this.#until.size > 0 && this.#until.has(digestOf(request));
  }
}

function digestOf({ method, path, body }: ForwardRequest): string {
  const hash = createHash("sha256").update(`${method} ${path}\n`);
  for (const chunk of body.chunks) hash.update(chunk);
  return hash.digest("base64");
}
