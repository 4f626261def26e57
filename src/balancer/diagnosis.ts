import type { Clock } from "../base/clock.ts";
import type { Limits } from "./limits.ts";
import { probe } from "./probe.ts";
import type { Server } from "./server.ts";

/** `dead`: nobody listens any more. `sick`: it says itself that it is not well. `alive`: it answers, or may still. */
export type Finding = "dead" | "sick" | "alive";

export interface ExaminationOptions {
  /** What is asked: any answer below 500 is a healthy one. */
  readonly healthPath: string;
  readonly limits: Limits;
  readonly clock: Clock;
}

interface Examination {
  readonly number: number;
  readonly finding: Promise<Finding>;
}

/**
 * Finds out whether a server has died under the requests that it has just lost, or answered with 500: the kernel closes all
 * sockets of a process that dies at about the same time, so whoever asks next is refused.
 */
export class Diagnosis {
  readonly #options: ExaminationOptions;
  readonly #running = new Map<Server, Examination>();
  #number = 0;

  constructor(options: ExaminationOptions) {
    this.#options = options;
  }

  /** Never rejects. Requests that are lost together share an examination, but none that had begun before they were lost. */
  async examine(server: Server): Promise<Finding> {
    const from = this.#number;
    for (;;) {
      const { number, finding } = this.#running.get(server) ?? this.#begin(server);
      const found = await finding;
      if (found === "dead" || number > from) return found;
    }
  }

  #begin(server: Server): Examination {
    this.#number += 1;
    const finding = this.#ask(server).finally(() => this.#running.delete(server));
    const examination = { number: this.#number, finding };
    this.#running.set(server, examination);
    return examination;
  }

  async #ask({ origin, host }: Server): Promise<Finding> {
    const { healthPath, limits, clock } = this.#options;
    const timeoutMs = limits.diagnoseMs;
    for (let tries = 1; ; tries++) {
      const result = await probe({ origin, host, path: healthPath, timeoutMs, clock }, never);
      if (result.kind === "answer") return result.status >= 500 ? "sick" : "alive";
      if (result.kind === "silent") return "alive";
      if (result.loss.kind === "refused") return "dead";
      // Its listening socket may be the last that is closed.
      if (result.loss.kind !== "broken" || tries >= maxTries) return "alive";
      await clock.sleep(pauseMs);
    }
  }
}

const maxTries = 3;
const pauseMs = 20;
const never = new AbortController().signal;
