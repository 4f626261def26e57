import type { Counts } from "../balancer/control.ts";
import type { Clock } from "../base/clock.ts";
import type { EventSink, EventSubject } from "../events/event.ts";
import type { HarnessMessage } from "../lmeval/protocol.ts";
import type { Lease } from "../queue/queue.ts";
import type { LeafId, OwnerId } from "../run/ids.ts";
import { BatchRequests, type RequestDeps } from "./batch-requests.ts";
import type { Breaker, Trip } from "./breaker.ts";
import {
  excuse,
  type FailedAttempt,
  type LeafFailure,
  PlaceFullError,
  reportExcused,
  strike,
  tellExcused,
} from "./leaf-failures.ts";
import type { Turn } from "./turn.ts";
import { fingerprintOf, openLeaves, readUnitState, type WorkUnit } from "./unit.ts";
import type { BatchHarness, RunEnd } from "./warm-harness.ts";

/** What the slots of a unit share. */
export interface BatchDeps extends RequestDeps {
  readonly unit: WorkUnit;
  readonly owner: OwnerId;
  readonly job: string;
  readonly harness: BatchHarness;
  readonly events: EventSink;
  readonly breaker: Breaker;
  readonly clock: Clock;
  /** A request without its leaves. Each has an id of its own, under which the balancer counts. */
  readonly request: (attempt: number) => BatchRequest;
  /** Servers or balancer were not well since then, or are not now: failed requests say nothing about the leaf. */
  readonly disturbedSince: (at: number) => Promise<boolean>;
  /** The unit is given up, and the leaves that brought it about are pardoned. */
  readonly onTrip: (trip: Trip) => Promise<void>;
  /** Finish the leaf at hand, then give the rest back; and why. */
  readonly yielding: AbortSignal;
  /** End what runs; and why. */
  readonly ending: AbortSignal;
  /** Why batches go back now. `unit-stopped`: for a reason that no leaf at hand can have caused. */
  readonly releaseReason: () => ReleaseReason;
}

export type BatchRequest = Omit<Parameters<BatchHarness["run"]>[0], "leaves">;

/** Why batches go back that are not settled. */
export type ReleaseReason = "draining" | "aborted" | "unit-stopped" | "server-lost";

export type BatchOutcome =
  | { readonly kind: "settled" }
  /** `dropped`: the harness died under it again and again. */
  | {
      readonly kind: "released";
      readonly reason: ReleaseReason | "failed-leaves" | "dropped";
    };

/** The harness may die so often under one lease before the batch goes back. */
const maxHarnessLosses = 5;
const progressEveryMs = 5_000;

/** A leased batch on its way through the harness. The lease itself is the caller's. */
export class BatchRun {
  readonly #deps: BatchDeps;
  readonly #lease: Lease;
  readonly #turn: Turn;
  readonly #subject: EventSubject;
  readonly #requests: BatchRequests;
  /** Not settled, and not failed under this lease. */
  #open: LeafId[] = [];
  #failed = 0;
  #cpuS = 0;
  #current: { leaf: LeafId; startedAt: number } | undefined;
  #progressAt = Number.NEGATIVE_INFINITY;
  /** What the messages of a run ask for, done in their order. Never rejects: see `#broken`. */
  #work: Promise<void> = Promise.resolve();
  /** Why nothing more can be recorded. */
  #broken: { readonly error: unknown } | undefined;

  constructor(deps: BatchDeps, lease: Lease, turn: Turn) {
    this.#deps = deps;
    this.#lease = lease;
    this.#turn = turn;
    this.#requests = new BatchRequests(deps);
    const { attempt, batch } = lease;
    this.#subject = { unit: deps.unit.planned.id, batch: batch.id, attempt, job: deps.job };
  }

  /** Evaluates what is open of the batch, leaf after leaf. @throws when run directory or results can't be written. */
  async evaluate(): Promise<BatchOutcome> {
    const { unit, events, yielding, releaseReason } = this.#deps;
    const leaves = this.#lease.batch.leaves;
    this.#open = openLeaves(unit, await readUnitState(unit), leaves);
    await events.publish("batch.leased", this.#subject, { leaves: [...this.#open] });
    for (let losses = 0; this.#open.length > 0; ) {
      if (yielding.aborted) return { kind: "released", reason: releaseReason() };
      const end = await this.#run();
      if ((end.kind === "lost" || stoodStill(end)) && ++losses >= maxHarnessLosses) {
        return { kind: "released", reason: "dropped" };
      }
    }
    return this.#failed > 0 ? { kind: "released", reason: "failed-leaves" } : { kind: "settled" };
  }

  /** Requests and tokens of all that was evaluated; undefined when a balancer took its counts with it. */
  async settle(): Promise<Counts | undefined> {
    return await this.#requests.settle();
  }

  /** CPU seconds of the processes that evaluated; those of a harness that died are not known. */
  get cpuS(): number {
    return this.#cpuS;
  }

  /** One run request with all open leaves: ends with fewer of them, or because we want to stop. */
  async #run(): Promise<RunEnd> {
    const { unit, harness, request, events, ending, yielding, clock } = this.#deps;
    const asked = request(this.#lease.attempt);
    this.#current = undefined;
    const leaves = this.#open.map((id) => runLeafOf(unit, id));
    await this.#requests.begin(asked.id, leaves, (leaf, reason) => {
      void events.publish("journal.off", { ...this.#subject, leaf }, { reason }).catch(() => {});
    });
    const turn = this.#turn.take();
    // What the child says until then is heard when it has the slot, or when it turns out that it never will.
    const cutOff = Promise.withResolvers<undefined>();
    const slot = Promise.race([turn, cutOff.promise]);
    // Before a leaf and between two of them is the time to stop for whoever is in no hurry.
    const enough = new AbortController();
    let isAtLeaf = false;
    const yieldNow = (): void => {
      if (yielding.aborted && !(isAtLeaf && this.#turn.slot !== undefined)) enough.abort();
    };
    yielding.addEventListener("abort", yieldNow, { once: true });
    yieldNow();
    const end = await harness.run(
      { ...asked, leaves },
      {
        signal: AbortSignal.any([ending, enough.signal]),
        turn: this.#turn.slot === undefined ? turn : undefined,
        onMessage: (message) => {
          const at = clock.monotonic();
          this.#do(async () => await this.#hear(message, at, await slot), enough);
          isAtLeaf = message.type === "leaf_started" || message.type === "progress";
          yieldNow();
        },
      },
    );
    yielding.removeEventListener("abort", yieldNow);
    if (!endedByItself(end)) cutOff.resolve(undefined);
    await this.#work;
    await this.#requests.end();
    if (end.kind === "ended") this.#cpuS += end.ended.cpu_s;
    if (this.#broken !== undefined) throw this.#broken.error;
    if (!enough.signal.aborted || ending.aborted) await this.#conclude(end, leaves.length);
    else await this.#leaveBegun();
    return end;
  }

  /** After what is to be done already. When nothing more can be recorded, it is `enough`. */
  #do(work: () => Promise<void>, enough: AbortController): void {
    this.#work = this.#work.then(async () => {
      try {
        if (this.#broken === undefined) await work();
      } catch (error) {
        this.#broken = { error };
        enough.abort();
      }
    });
  }

  /**
   * @param at when it was said: what is said before may take its time
   * @param slot undefined: it has had none; a leaf that was prepared in vain was not evaluated
   */
  async #hear(
    message: Extract<HarnessMessage, { id: string; leaf: string }>,
    at: number,
    slot: number | undefined,
  ): Promise<void> {
    const { unit, events, breaker, clock } = this.#deps;
    const leaf = message.leaf as LeafId;
    const fingerprint = fingerprintOf(unit, leaf);
    const subject = { ...this.#subject, leaf };
    switch (message.type) {
      case "leaf_started":
        if (slot === undefined) return;
        this.#current = { leaf, startedAt: at };
        return await events.publish("leaf.started", subject, { slot, fingerprint });
      case "progress": {
        const { phase, done, total, nearly_done } = message;
        // Answers that were kept come so fast that those that follow can't be foreseen.
        const isForeseen = phase === "scoring" || !this.#requests.replays(leaf);
        if (this.#open.length === 1) {
          if (nearly_done && isForeseen) this.#turn.endSoon();
          if (phase === "scoring") this.#turn.endAsking();
        }
        if (phase === "loading" || phase === "prepared") return;
        if (clock.monotonic() - this.#progressAt < progressEveryMs) return;
        this.#progressAt = clock.monotonic();
        return await events.publish("batch.progress", subject, {
          phase,
          done,
          total,
        });
      }
      case "leaf_done": {
        this.#settled(leaf);
        if (message.outcome === "created") breaker.succeeded();
        const {
          path: result,
          outcome,
          n_samples,
          n_requests,
          load_s,
          requests_s,
          total_s,
        } = message;
        const times = { load_s, requests_s, total_s };
        const served = await this.#requests.settleLeaf(leaf);
        const body = { fingerprint, result, outcome, n_samples, n_requests, ...times, ...served };
        await events.publish("leaf.done", subject, body);
        return await this.#requests.dropJournal(leaf);
      }
      case "leaf_invalid": {
        this.#settled(leaf);
        breaker.succeeded();
        const { path: result, reason } = message;
        const body = { fingerprint, result, reason, ...(await this.#requests.settleLeaf(leaf)) };
        await events.publish("leaf.invalid", subject, body);
        return await this.#requests.dropJournal(leaf);
      }
      case "leaf_failed":
        return await this.#fail(leaf, message);
    }
  }

  /** The child may have begun another leaf before it heard that it was enough. */
  async #leaveBegun(): Promise<void> {
    const leaf = this.#current?.leaf;
    if (leaf === undefined || !this.#open.includes(leaf)) return;
    await tellExcused(this.#deps, { ...this.#subject, leaf }, this.#deps.releaseReason());
  }

  /** What the end of a run with `asked` leaves says about the one that was in progress. */
  async #conclude(end: RunEnd, asked: number): Promise<void> {
    const { ending, yielding } = this.#deps;
    const current = this.#current?.leaf;
    const atHand = current !== undefined && this.#open.includes(current) ? current : undefined;
    if (end.kind === "lost") {
      if (atHand !== undefined) await this.#excuse(atHand, "the harness died");
      return;
    }
    if (stoodStill(end)) {
      if (atHand !== undefined)
        await this.#excuse(atHand, "stopped by a signal, and not continued");
      return;
    }
    if (atHand !== undefined && end.kind === "ended") {
      if (end.ended.cancelled || ending.aborted) await this.#excuse(atHand, "cancelled");
      else await this.#fail(atHand, crashOf(end.ended), end.ended.signal !== "SIGKILL");
      return;
    }
    // Nothing was said of any leaf: the first stands for all, and the others are tried without it.
    const first = atHand ?? (this.#open.length === asked ? this.#open[0] : undefined);
    if (first === undefined || yielding.aborted) return;
    await this.#fail(first, end.kind === "error" ? end.error : crashOf(end.ended));
  }

  /**
   * A leaf that failed stays out of this lease; whether it gets another chance its strikes decide.
   * @param ofItself whatever kills an evaluation from outside has nothing against its answers
   */
  async #fail(leaf: LeafId, failure: LeafFailure, ofItself = true): Promise<void> {
    const { breaker, disturbedSince, ending, clock, onTrip } = this.#deps;
    const startedAt = this.#current?.leaf === leaf ? this.#current.startedAt : clock.monotonic();
    this.#drop(leaf);
    if (ending.aborted || (failure.class === "requests" && (await disturbedSince(startedAt)))) {
      this.#failed += 1;
      await reportExcused(this.#deps, { ...this.#subject, leaf }, failure);
      await this.#excuse(leaf, "server-lost");
      return;
    }
    if (failure.class === "write") {
      await reportExcused(this.#deps, { ...this.#subject, leaf }, failure);
      throw new PlaceFullError(leaf, failure);
    }
    if (failure.class === "memory") this.#turn.prepareNoMore();
    // Its answers may be the cause.
    if (ofItself) await this.#requests.dropJournal(leaf);
    const isDead = await strike(this.#deps, this.#subject, this.#attempt(leaf), failure);
    if (!isDead) this.#failed += 1;
    const trip = breaker.failed(leaf, failure.class, failure.message);
    if (trip !== undefined) await onTrip(trip);
  }

  /** The evaluation ended in the middle of the leaf, and something else is at fault, most likely. */
  async #excuse(leaf: LeafId, reason: string): Promise<void> {
    const { ending, releaseReason } = this.#deps;
    const why = ending.aborted ? releaseReason() : reason;
    if (why === "unit-stopped") {
      // So may those of leaves that have not failed yet.
      await this.#requests.dropJournal(leaf);
      return;
    }
    await excuse(this.#deps, this.#subject, this.#attempt(leaf), why);
  }

  #attempt(leaf: LeafId): FailedAttempt {
    const { attempt, batch } = this.#lease;
    return { leaf, owner: this.#deps.owner, batch: batch.id, attempt };
  }

  /** Its file is in place. */
  #settled(leaf: LeafId): void {
    this.#drop(leaf);
    if (this.#open.length === 0) this.#turn.end();
  }

  #drop(leaf: LeafId): void {
    this.#open = this.#open.filter((other) => other !== leaf);
  }
}

/** A leaf as the harness wants to know it. */
function runLeafOf(unit: WorkUnit, id: LeafId) {
  const leaf = unit.plan.leaves[id];
  if (leaf === undefined) throw new TypeError(`Leaf "${id}" is not planned`);
  const { name, source, overrides } = leaf;
  return { id, name, source, overrides, fingerprint: fingerprintOf(unit, id) };
}

/** Neither has anybody ended the child, nor has the harness died under it. */
function endedByItself(end: RunEnd): boolean {
  return end.kind === "error" || (end.kind === "ended" && !end.ended.cancelled && !stoodStill(end));
}

/** Somebody has stopped the child, and the harness has ended it: no leaf's fault. */
function stoodStill(end: RunEnd): boolean {
  return end.kind === "ended" && end.ended.signal === "SIGSTOP";
}

/** The death of a child as a failure of the leaf that it was at. */
function crashOf(ended: Extract<RunEnd, { kind: "ended" }>["ended"]): LeafFailure {
  const killed = ended.signal === "SIGKILL";
  const how = ended.signal ?? `exit code ${ended.exit_code ?? "unknown"}`;
  return {
    class: killed ? "memory" : "crash",
    permanent: false,
    message: killed
      ? `The evaluation was killed (SIGKILL), as the kernel does when memory runs out; it used ${Math.round(ended.max_rss_bytes / 2 ** 20)} MiB`
      : `The evaluation ended by ${how} in the middle of a task`,
    trace_tail: [],
  };
}
