import { type Clock, systemClock } from "../base/clock.ts";
import { errnoName } from "../base/errors.ts";
import { readTextIfThere } from "../base/files.ts";
import { isRunning, processesWithEnvironment, sendSignal } from "../base/proc.ts";
import type { OwnerId } from "../run/ids.ts";
import type { RunLayout } from "../run/layout.ts";
import {
  type OwnerIdentity,
  type OwnerRecord,
  parseOwnerRecord,
  relationTo,
} from "./owner-record.ts";
import type { Verdict } from "./queue.ts";

/** Without any witness an owner is dead when its record stood still for this long. */
const silenceMs = 900_000;
/** What one look adds to the silence at most: a watcher that was itself stopped has not watched. */
const longestGapMs = 60_000;
/** How long the remains of an owner may take to end after SIGKILL. */
const remainsMs = 10_000;

export interface WatchOptions {
  readonly layout: RunLayout;
  /** The watcher itself. */
  readonly here: OwnerIdentity;
  readonly clock: Clock;
  /** What Slurm says of an owner's job. `dead` is final; anything else leaves the word to the heartbeat. */
  readonly slurm?: (record: OwnerRecord) => Promise<Verdict>;
}

export interface Finding {
  readonly verdict: Verdict;
  /** undefined: missing, unreadable or half-written. */
  readonly record: OwnerRecord | undefined;
}

/** What the watcher has seen of one record. */
interface Silence {
  readonly text: string;
  readonly lookedAt: number;
  /** How long it has been as it is now, as far as this watcher saw. */
  readonly unchangedMs: number;
  /** It was different at the last look. */
  readonly moved: boolean;
}

/**
 * Judges owners by their records. It remembers what it saw: silence counts on its own clock, from its own first look, so
 * no two machines' clocks are ever compared, and nobody is called dead for being unreadable.
 */
export class OwnerWatch {
  readonly #options: WatchOptions;
  readonly #silences = new Map<string, Silence>();

  constructor(options: WatchOptions) {
    this.#options = options;
  }

  /** `dead` is said only after nothing of the owner runs on this machine any more. */
  async judge(owner: OwnerId): Promise<Verdict> {
    if (owner === this.#options.here.owner) return "alive";
    return (await this.examine(this.#options.layout.heartbeat(owner), owner)).verdict;
  }

  /** As `judge`, for a record at any path; whose it is, the record says, if nobody else does. */
  async examine(path: string, owner?: OwnerId): Promise<Finding> {
    let text: string;
    try {
      text = (await readTextIfThere(path)) ?? "";
    } catch (error) {
      if (errnoName(error) === undefined) throw error;
      this.#silences.delete(path);
      return { verdict: "unknown", record: undefined };
    }
    const silence = this.#listen(path, text);
    const record = parseOwnerRecord(text);
    const decided = await this.#decide(record, silence);
    const cleared =
      decided !== "dead" || (await this.#clearRemains(record, owner ?? record?.owner));
    const verdict = cleared ? decided : "unknown";
    if (verdict === "dead") this.#silences.delete(path);
    return { verdict, record };
  }

  async #decide(record: OwnerRecord | undefined, silence: Silence): Promise<Verdict> {
    if (record?.state === "ended") return "dead";
    if (record !== undefined) {
      const relation = relationTo(record, this.#options.here);
      if (relation === "rebooted") return "dead";
      if (relation === "here" && !(await isRunning(processOf(record)))) return "dead";
      if (record.job !== undefined && (await this.#options.slurm?.(record)) === "dead") {
        return "dead";
      }
      if (relation === "here" && silence.unchangedMs < silenceMs) return "alive";
    }
    if (silence.unchangedMs >= silenceMs) return "dead";
    return silence.moved ? "alive" : "unknown";
  }

  #listen(path: string, text: string): Silence {
    const lookedAt = this.#options.clock.monotonic();
    const before = this.#silences.get(path);
    const unchanged = before?.text === text;
    const gapMs = before === undefined ? 0 : Math.min(lookedAt - before.lookedAt, longestGapMs);
    const silence: Silence = {
      text,
      lookedAt,
      unchangedMs: unchanged ? before.unchangedMs + gapMs : 0,
      moved: before !== undefined && !unchanged,
    };
    this.#silences.set(path, silence);
    return silence;
  }

  /**
   * Kills what an owner that counts as dead has left on this machine: everything that we start carries EH_OWNER, and the
   * owner itself may be stopped or hang; one that said good-bye may do as it likes. @returns false while something is
   * still there.
   */
  async #clearRemains(
    record: OwnerRecord | undefined,
    owner: string | undefined,
  ): Promise<boolean> {
    const { here } = this.#options;
    const local =
      record !== undefined && record.state === "live" && relationTo(record, here) === "here";
    // Real processes end in real time.
    const deadline = systemClock.monotonic() + remainsMs;
    for (;;) {
      const carriers = owner === undefined ? [] : await processesWithEnvironment("EH_OWNER", owner);
      const pids = carriers.filter((pid) => pid !== process.pid);
      if (local && (await isRunning(processOf(record)))) pids.push(record.pid);
      if (pids.length === 0) return true;
      try {
        for (const pid of pids) sendSignal(pid, "SIGKILL");
      } catch (error) {
        // Another user's process: only that user can end it.
        if (errnoName(error) === "EPERM") return false;
        throw error;
      }
      if (systemClock.monotonic() > deadline) return false;
      await systemClock.sleep(20);
    }
  }
}

function processOf(record: OwnerRecord): { pid: number; startTime: string } {
  return { pid: record.pid, startTime: record.start_time };
}
