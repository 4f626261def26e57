import { readdir } from "node:fs/promises";
import type { Clock } from "../base/clock.ts";
import { isMissing } from "../base/errors.ts";
import type { EventSink } from "../events/event.ts";
import type { OwnerIdentity } from "../queue/owner-record.ts";
import type { Queue, Verdict } from "../queue/queue.ts";
import { reapShard } from "../queue/reap.ts";
import { OwnerWatch } from "../queue/verdict.ts";
import type { OwnerId } from "../run/ids.ts";
import type { RunLayout } from "../run/layout.ts";
import type { WorkUnit } from "./unit.ts";

/** Returns the work of dead owners to the queue, after ending what they have left on this machine. */
export class Reaper {
  readonly #watch: OwnerWatch;
  readonly #layout: RunLayout;
  readonly #events: EventSink;
  readonly #dead = new Set<string>();
  #passing: Promise<boolean> | undefined;

  constructor(layout: RunLayout, here: OwnerIdentity, events: EventSink, clock: Clock) {
    this.#layout = layout;
    this.#events = events;
    this.#watch = new OwnerWatch({ layout, here, clock });
    // Whatever is in our name at the end of a unit was left by a child that was killed.
    this.#dead.add(here.owner);
  }

  /** True for owners that are known to be dead, and for this one. */
  isGone = (owner: string): boolean => this.#dead.has(owner);

  /** Ends what earlier owners have left running here; their records stay for those who look after their batches. */
  async clearRemains(): Promise<void> {
    const names = await readdir(this.#layout.heartbeats).catch((error: unknown) => {
      if (isMissing(error)) return [];
      throw error;
    });
    for (const name of names) {
      if (/^[a-z0-9-]+$/.test(name)) await this.#judge(name as OwnerId);
    }
  }

  /** One pass over a unit; slots that ask while one is under way share it. @returns true when work came back. */
  async reap(queue: Queue, unit: WorkUnit): Promise<boolean> {
    this.#passing ??= this.#pass(queue, unit).finally(() => {
      this.#passing = undefined;
    });
    return await this.#passing;
  }

  async #pass(queue: Queue, unit: WorkUnit): Promise<boolean> {
    let returned = false;
    for (const shard of unit.shards) {
      const reaped = await reapShard(queue, shard, (owner) => this.#judge(owner));
      if (reaped.size > 0) returned = true;
      for (const [owner, batches] of reaped) {
        for (const batch of batches) {
          const subject = { unit: unit.planned.id, batch };
          await this.#events.publish("batch.reclaimed", subject, { owner });
        }
      }
    }
    return returned;
  }

  async #judge(owner: OwnerId): Promise<Verdict> {
    const verdict = await this.#watch.judge(owner);
    if (verdict === "dead") this.#dead.add(owner);
    return verdict;
  }
}
