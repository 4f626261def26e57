import type { Clock } from "../base/clock.ts";
import type { Logger } from "../base/log.ts";
import { Attempt, type Outcome } from "./attempt.ts";
import type { Blocks } from "./blocks.ts";
import { Convicts } from "./convicts.ts";
import type { Death } from "./deaths.ts";
import type { Fleet, NoPlace, Place } from "./fleet.ts";
import type { HeldBytes } from "./held-bytes.ts";
import { isDoubtful, type Judge, type Judgement } from "./judge.ts";
import type { Limits } from "./limits.ts";
import { promptKeyOf } from "./prompts.ts";
import type { HeldAnswer, Reply } from "./reply.ts";
import type { ForwardRequest } from "./request.ts";
import { decideRetry, type Failure, noTries, type Tries } from "./retry.ts";
import type { Server } from "./server.ts";
import { readUsage } from "./tally.ts";

export interface ForwarderDeps {
  readonly fleet: Fleet;
  readonly judge: Judge;
  readonly held: HeldBytes;
  readonly blocks: Blocks;
  readonly limits: Limits;
  readonly clock: Clock;
  readonly log: Logger;
  /** Of one attempt; waiting for a server does not count. */
  readonly timeoutMs: () => number;
  /** Servers are chosen by prompt. */
  readonly byPrompt: boolean;
}

/** A request on its way to its answer, and what has happened to it so far. */
interface Course {
  readonly request: ForwardRequest;
  readonly reply: Reply;
  readonly promptKey: string | undefined;
  readonly done: () => void;
  attempts: number;
  tries: Tries;
  /** Servers that have failed it. */
  tried: ReadonlySet<Server>;
  /** Servers that have answered it with 500 or the like. */
  blamed: readonly Server[];
  /** Of its servers. */
  deaths: ReadonlySet<Death>;
  /** It may have killed a server. */
  suspect: boolean;
  /** Its last connection was closed before it came: the next one is a new one. */
  fresh: boolean;
}

type Step = "done" | "again";

const nothing: ReadonlySet<never> = new Set();
/** Servers whose errors together make a request the cause of them. */
const witnesses = 3;

/**
 * Gets requests answered: by any server, in as many attempts as it takes and the rules of retrying allow. What every request
 * goes through is written without promises, which would double what the balancer costs; they begin where something fails.
 */
export class Forwarder {
  readonly #deps: ForwarderDeps;
  readonly #convicts: Convicts;
  /** Attempts beyond the first, by what made them necessary. */
  readonly retries = new Map<Failure["kind"], number>();

  constructor(deps: ForwarderDeps) {
    this.#deps = deps;
    this.#convicts = new Convicts(deps.clock, deps.limits.convictMs);
  }

  /** Sees to it that the client gets an answer, unless it goes. @param done called once, when nothing more is to do */
  forward(request: ForwardRequest, reply: Reply, done: () => void): void {
    const course: Course = {
      request,
      reply,
      promptKey: this.#deps.byPrompt ? promptKeyOf(request.body.chunks) : undefined,
      done,
      attempts: 0,
      tries: noTries,
      tried: nothing,
      blamed: [],
      deaths: nothing,
      suspect: false,
      fresh: false,
    };
    if (this.#convicts.has(request)) {
      this.#end(course, this.#refuse(course, 502, "Servers died under it before"));
    } else {
      this.#place(course);
    }
  }

  #place(course: Course): void {
    if (course.reply.gone) {
      this.#end(course, abandon(course));
      return;
    }
    const place = this.#deps.fleet.place(course);
    if (place instanceof Promise) void place.then((found) => this.#try(course, found));
    else this.#try(course, place);
  }

  #try(course: Course, place: Place | NoPlace): void {
    if (place === "gone") this.#end(course, abandon(course));
    else if (place === "no-server") {
      const fields = ["Retry-After", "10"];
      this.#end(course, this.#refuse(course, 503, "No server is up", fields));
    } else {
      this.#start(course, place);
    }
  }

  #start(course: Course, place: Place): void {
    const { server, waitedMs } = place;
    const { fleet, clock, timeoutMs } = this.#deps;
    const { request, reply, fresh } = course;
    course.attempts += 1;
    const provenance = { request: request.id, server: server.id, attempts: course.attempts };
    const options = { server, request, reply, provenance, timeoutMs: timeoutMs(), fresh };
    const attempt = new Attempt(options, this.#deps, ({ startedAt }, outcome) => {
      // Before its place is given to another request.
      if (isDoubtful(outcome)) fleet.doubt(server);
      fleet.leave(place);
      const serviceMs = clock.monotonic() - startedAt;
      request.tally.addTimes(waitedMs, serviceMs);
      server.tally.addTimes(waitedMs, serviceMs);
      server.untilEnd.add(serviceMs);
      this.#take(course, server, startedAt, outcome);
    });
    attempt.start();
  }

  #take(course: Course, server: Server, startedAt: number, outcome: Outcome): void {
    const { judge } = this.#deps;
    if (outcome.kind === "answer" && judge.isGood(outcome.answer)) {
      judge.praise(server);
      this.#end(course, this.#send(course, server, outcome.answer));
    } else if (outcome.kind === "streamed") {
      judge.praise(server);
      countAnswer(course, server, outcome.status, outcome.tail);
      this.#end(course, "done");
    } else {
      this.#recover(course, server, startedAt, outcome).then(
        (step) => this.#end(course, step),
        (error: unknown) => {
          this.#deps.log.error({ error }, "a bug in the balancer");
          course.reply.cut();
          this.#end(course, "done");
        },
      );
    }
  }

  #end(course: Course, step: Step): void {
    if (step === "done") {
      course.done();
    } else {
      course.request.tally.addRetry();
      this.#place(course);
    }
  }

  /** What follows when an attempt has brought no answer, or none that the client should have at once. */
  async #recover(
    course: Course,
    server: Server,
    startedAt: number,
    outcome: Exclude<Outcome, { kind: "streamed" }>,
  ): Promise<Step> {
    const { judge, fleet, log } = this.#deps;
    const { request, reply } = course;
    switch (outcome.kind) {
      case "gone":
        server.tally.addAbandoned();
        return abandon(course);
      case "unfit":
        return this.#refuse(course, outcome.why === "too-large" ? 413 : 408, unfit[outcome.why]);
      case "cut":
        log.warn({ request: request.id, server: server.id, reason: outcome.reason }, "answer cut");
        fleet.report(server, { kind: "failed" });
        reply.cut();
        return abandon(course);
      default:
        return await this.#act(course, server, await judge.judge(server, startedAt, outcome));
    }
  }

  async #act(course: Course, server: Server, judgement: Judgement): Promise<Step> {
    const { answer, failure, death } = judgement;
    if (death !== undefined) {
      course.deaths = new Set([...course.deaths, death]);
      course.suspect = true;
    }
    if (failure.kind === "server-error") course.blamed = [...course.blamed, server];
    if (answer !== undefined) {
      server.countStatus(answer.head.status);
      server.tally.addAnswer(answer.head.status, undefined);
    }
    course.fresh = failure.kind === "stale";
    const isBlameless = ["unreachable", "local", "stale"].includes(failure.kind);
    if (!isBlameless) course.tried = new Set([...course.tried, server]);
    const decision = this.#decide(course, failure);
    if (decision.kind === "pass" && answer !== undefined) {
      return this.#pass(course, server, answer);
    }
    answer?.release();
    switch (decision.kind) {
      case "again":
        this.#countRetry(server, failure);
        return await this.#pause(course, decision.pauseMs);
      case "detain":
        return await this.#detain(course, server, failure);
      case "refuse":
        return this.#refuse(course, decision.status, decision.why);
      case "pass":
        throw new TypeError(`There is no answer to pass on after ${failure.kind}`);
    }
  }

  #decide(course: Course, failure: Failure) {
    const { fleet, clock, limits } = this.#deps;
    const circumstances = {
      othersLeft: fleet.hasOthers(course.tried),
      replayable: course.request.body.replayable,
      otherDeaths: fleet.deaths.without(course.deaths),
      unheard: this.#hasUnheard(course),
      now: clock.monotonic(),
      random: Math.random(),
    };
    const { tries, decision } = decideRetry(course.tries, failure, circumstances, limits);
    course.tries = tries;
    return decision;
  }

  #send(course: Course, server: Server, answer: HeldAnswer): Step {
    countAnswer(course, server, answer.head.status, answer.chunks);
    const { request, reply, attempts } = course;
    // Before its bytes are given back.
    request.journal?.keep(request, answer);
    reply.send(answer, { request: request.id, server: server.id, attempts });
    return "done";
  }

  /** Servers that are down have not had their say, and too few others have. */
  #hasUnheard({ blamed }: Course): boolean {
    return new Set(blamed).size < witnesses && this.#deps.fleet.hasDownBesides(blamed);
  }

  /** The client gets the server's error. Where all servers answer so, the request is the cause, and none of them is to blame. */
  #pass(course: Course, server: Server, answer: HeldAnswer): Step {
    const { request, reply, attempts, blamed } = course;
    const { status } = answer.head;
    if (!this.#hasUnheard(course)) {
      for (const other of blamed) this.#deps.fleet.report(other, { kind: "pardoned" });
    }
    this.#deps.log.warn({ request: request.id, attempts, status }, "error passed on");
    request.tally.addAnswer(status, undefined);
    reply.send(answer, { request: request.id, server: server.id, attempts });
    return "done";
  }

  #refuse(course: Course, status: number, why: string, fields: readonly string[] = []): Step {
    const { request, reply, attempts } = course;
    this.#deps.log.warn({ request: request.id, attempts, status, why }, "request refused");
    request.tally.addAnswer(status, undefined);
    reply.refuse(status, why, fields);
    return "done";
  }

  /** Two servers have died under it: it is refused, unless servers die without it. */
  async #detain(course: Course, server: Server, failure: Failure): Promise<Step> {
    const { fleet, limits, log } = this.#deps;
    const { request } = course;
    log.warn({ request: request.id, deaths: course.deaths.size }, "request suspected of killing");
    const acquitted = await whileThere(course.reply, async (signal) =>
      fleet.deaths.acquittal(course.deaths, limits.verdictMs, signal),
    );
    if (acquitted === undefined) return abandon(course);
    if (acquitted) {
      this.#countRetry(server, failure);
      return "again";
    }
    this.#convicts.add(request);
    return this.#refuse(course, 502, `${course.deaths.size} servers died under it`);
  }

  async #pause(course: Course, pauseMs: number): Promise<Step> {
    if (pauseMs === 0) return "again";
    const { clock } = this.#deps;
    const rested = await whileThere(course.reply, async (signal) => {
      await clock.sleep(pauseMs, signal);
      return true;
    });
    return rested === undefined ? abandon(course) : "again";
  }

  #countRetry(server: Server, { kind }: Failure): void {
    server.tally.addRetry();
    this.retries.set(kind, (this.retries.get(kind) ?? 0) + 1);
  }
}

export const unfit = {
  "too-large": "The body is larger than this address takes",
  "too-slow": "The body came too slowly",
} as const;

function countAnswer(
  { request }: Course,
  server: Server,
  status: number,
  chunks: readonly Buffer[],
): void {
  const usage = status >= 200 && status < 300 ? readUsage(chunks) : undefined;
  request.tally.addAnswer(status, usage);
  server.tally.addAnswer(status, usage);
  server.countStatus(status);
}

function abandon({ request }: Course): Step {
  request.tally.addAbandoned();
  return "done";
}

/** What `wait` gives; undefined when the client goes first. */
async function whileThere<T>(
  reply: Reply,
  wait: (signal: AbortSignal) => Promise<T>,
): Promise<T | undefined> {
  if (reply.gone) return undefined;
  const gone = new AbortController();
  reply.onGone = () => gone.abort();
  try {
    return await wait(gone.signal);
  } catch (error) {
    if (!gone.signal.aborted) throw error;
    return undefined;
  } finally {
    reply.onGone = undefined;
  }
}
