import type { Clock } from "../base/clock.ts";
import type { Outcome } from "./attempt.ts";
import type { Loss } from "./connection.ts";
import type { Death } from "./deaths.ts";
import type { Diagnosis } from "./diagnosis.ts";
import type { Fleet } from "./fleet.ts";
import type { HeldAnswer } from "./reply.ts";
import type { Failure } from "./retry.ts";
import { parseRetryAfter } from "./retry-after.ts";
import type { Server } from "./server.ts";

/** What a failed attempt comes to. */
export interface Judgement {
  readonly failure: Failure;
  /** What the client gets if its request is not sent again. */
  readonly answer?: HeldAnswer;
  /** Of the server, under the request. */
  readonly death?: Death;
}

export interface JudgeDeps {
  readonly fleet: Fleet;
  readonly diagnosis: Diagnosis;
  readonly clock: Clock;
}

/** True when it takes a look at the server to tell what an attempt comes to. */
export function isDoubtful(outcome: Outcome): boolean {
  if (outcome.kind === "lost") {
    return outcome.loss.kind === "broken" || outcome.loss.kind === "malformed";
  }
  return outcome.kind === "answer" && isServerError(outcome.answer.head.status);
}

/** Answers that say "not now": back-pressure, or a server that is still loading. */
function isBusy(status: number): boolean {
  return status === 429 || status === 502 || status === 503 || status === 504;
}

function isServerError(status: number): boolean {
  return status >= 500 && !isBusy(status);
}

/** Tells failures of servers from those of requests, and the fleet what an attempt says about its server's health. */
export class Judge {
  readonly #deps: JudgeDeps;

  constructor(deps: JudgeDeps) {
    this.#deps = deps;
  }

  /** The client shall have it at once. */
  isGood({ head: { status } }: HeldAnswer): boolean {
    return !isBusy(status) && !isServerError(status);
  }

  /**
   * @param outcome of an attempt that brought no good answer; where it `isDoubtful`, the fleet has been told
   * @param startedAt when the attempt began
   */
  async judge(
    server: Server,
    startedAt: number,
    outcome: Extract<Outcome, { kind: "answer" | "lost" | "timeout" | "taken-back" }>,
  ): Promise<Judgement> {
    switch (outcome.kind) {
      case "answer":
        return await this.#judgeAnswer(server, startedAt, outcome.answer);
      case "lost":
        return await this.#judgeLoss(server, startedAt, outcome.loss);
      case "timeout":
        this.#deps.fleet.report(server, { kind: "failed" });
        return { failure: { kind: "timeout", afterMs: outcome.afterMs } };
      case "taken-back":
        return { failure: { kind: "taken-back" } };
    }
  }

  /** An answer was given that says nothing bad of its server. */
  praise(server: Server): void {
    server.answeredAt = this.#deps.clock.monotonic();
    this.#deps.fleet.report(server, { kind: "answered" });
  }

  async #judgeAnswer(server: Server, startedAt: number, answer: HeldAnswer): Promise<Judgement> {
    const { status, retryAfter } = answer.head;
    if (isBusy(status)) {
      const retryAfterMs = parseRetryAfter(retryAfter, this.#deps.clock.now());
      this.#deps.fleet.report(server, { kind: "busy", forMs: retryAfterMs });
      return { failure: { kind: "busy", retryAfterMs }, answer };
    }
    // An engine that dies lets its HTTP server answer so, and not the culprit alone.
    if (!(await this.#lives(server))) return { ...this.#judgeDeath(server, startedAt), answer };
    this.#blame(server);
    return { failure: { kind: "server-error" }, answer };
  }

  async #judgeLoss(server: Server, startedAt: number, loss: Loss): Promise<Judgement> {
    const { fleet } = this.#deps;
    if (loss.kind === "local") return { failure: { kind: "local" } };
    if (loss.kind === "refused" || loss.kind === "unreachable") {
      const reason = `it ${loss.reason}`;
      if (server.seen && loss.kind === "refused") fleet.reportDeath(server, reason);
      else fleet.report(server, { kind: "unreachable", reason });
      return { failure: { kind: "unreachable" } };
    }
    if (!(await this.#lives(server))) return this.#judgeDeath(server, startedAt);
    if (loss.stale) return { failure: { kind: "stale" } };
    fleet.report(server, { kind: "failed" });
    if (loss.kind === "malformed") this.#blame(server);
    return { failure: { kind: "lost" } };
  }

  #judgeDeath(server: Server, startedAt: number): Judgement {
    this.#deps.fleet.reportDeath(server, "it died");
    const { death, doubtedSince } = server;
    // It came when the server had died already, over a connection that did not know it yet.
    if (doubtedSince !== undefined && startedAt > doubtedSince) {
      return { failure: { kind: "unreachable" } };
    }
    // Whoever takes a server off the list stops it: no death that a request could have caused.
    if (death === undefined) return { failure: { kind: "lost" } };
    return { failure: { kind: "died" }, death };
  }

  async #lives(server: Server): Promise<boolean> {
    const lives = (await this.#deps.diagnosis.examine(server)) === "alive";
    this.#deps.fleet.settle(server, lives);
    return lives;
  }

  #blame(server: Server): void {
    const othersAnsweredAt = this.#deps.fleet.othersAnsweredAt(server);
    this.#deps.fleet.report(server, { kind: "bad-answer", othersAnsweredAt });
  }
}
