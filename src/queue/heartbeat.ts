import { access, open, rm } from "node:fs/promises";
import { dirname } from "node:path";
import { type Clock, systemClock } from "../base/clock.ts";
import { EnvironmentError } from "../base/errors.ts";
import { ensureDirectory, writeFileExclusive } from "../base/files.ts";
import { TaskGroup } from "../base/task-group.ts";
import type { OwnerId } from "../run/ids.ts";
import type { RunLayout } from "../run/layout.ts";
import { createExclusive } from "./exclusive.ts";
import { type OwnerIdentity, renderOwnerRecord } from "./owner-record.ts";
import { accessing } from "./queue-error.ts";

/** Why an owner must stop all that it has started: others may take its batches from now on. */
export class FencedError extends EnvironmentError {
  readonly why: "evicted" | "not-renewed";

  constructor(why: FencedError["why"], silentMs: number, options: ErrorOptions = {}) {
    super(
      `queue.${why}`,
      why === "evicted"
        ? "Stopped: another process found this one's job ended and asked it to stop"
        : `Stopped: the heartbeat could not be renewed for ${Math.round(silentMs / 1000)} s`,
      { ...options, hint: "Finished leaves are safe; the next agent goes on with the others." },
    );
    this.why = why;
  }
}

/** The sign of life of an owner. Disposing it says good-bye. */
export interface Heartbeat extends AsyncDisposable {
  /** Aborts, with a FencedError, when the owner must stop its children. */
  readonly fenced: AbortSignal;
  /** It ends without a good-bye: the owner may still hold batches, which others return once they find it dead. */
  fallSilent(): void;
}

export interface HeartbeatOptions {
  readonly identity: OwnerIdentity;
  readonly clock?: Clock;
  /** Between two beats, give or take a fifth. */
  readonly intervalMs?: number;
  /** Without a beat for this long, the owner stops: well before others call it dead. */
  readonly fenceMs?: number;
}

/**
 * Creates the heartbeat of an owner and keeps it moving. Returns when it is on disk, which must be before the first claim.
 * @throws {RangeError} when the owner's id was used before.
 */
export async function startHeartbeat(
  layout: RunLayout,
  options: HeartbeatOptions,
): Promise<Heartbeat> {
  const owner = options.identity.owner as OwnerId;
  const path = layout.heartbeat(owner);
  if (!(await createRecord(path, options.identity))) {
    throw new RangeError(`Owner id used twice: "${owner}"`);
  }
  const beats = keepBeating(path, { ...options, evictNote: layout.evictNote(owner) });
  let saysGoodBye = true;
  return {
    fenced: beats.fenced,
    fallSilent: () => {
      saysGoodBye = false;
    },
    [Symbol.asyncDispose]: async () => {
      await beats.stop();
      if (!saysGoodBye) return;
      // Whoever stops in good order has returned its batches: nobody will ask about it again.
      await rm(layout.evictNote(owner), { force: true });
      await rm(path, { force: true });
    },
  };
}

/** Asks an owner to stop at its next beat. */
export async function writeEvictNote(layout: RunLayout, owner: OwnerId, by: string): Promise<void> {
  const path = layout.evictNote(owner);
  await accessing("write an evict note", path, () => writeFileExclusive(path, `${by}\n`));
}

/** Creates a record, whole and durable. @returns false when the file is there already. */
export async function createRecord(path: string, identity: OwnerIdentity): Promise<boolean> {
  return await accessing("create a heartbeat", path, async () => {
    await ensureDirectory(dirname(path));
    return await createExclusive(path, renderOwnerRecord({ ...identity, state: "live", beat: 0 }));
  });
}

/** Rewrites a record in place; readers on other machines see it after its fsync and close. */
export async function rewriteRecord(
  path: string,
  identity: OwnerIdentity,
  state: "live" | "ended",
  beat: number,
): Promise<void> {
  const file = await open(path, "r+");
  try {
    await file.write(renderOwnerRecord({ ...identity, state, beat }), 0, undefined, 0);
    await file.sync();
  } finally {
    await file.close();
  }
}

export interface Beats {
  readonly fenced: AbortSignal;
  /** Ends the beats, without a good-bye. @returns the number of the last one. */
  stop(): Promise<number>;
}

/** Keeps a record moving until it is stopped or fenced. */
export function keepBeating(
  path: string,
  options: HeartbeatOptions & { readonly evictNote?: string },
): Beats {
  const {
    identity,
    clock = systemClock,
    intervalMs = 15_000,
    fenceMs = 300_000,
    evictNote,
  } = options;
  const fence = new AbortController();
  const group = new TaskGroup(fence.signal);
  let beat = 0;
  let renewedAt = clock.monotonic();
  let lastError: unknown;
  const silentMs = () => clock.monotonic() - renewedAt;
  const fenceOff = () =>
    fence.abort(new FencedError("not-renewed", silentMs(), { cause: lastError }));

  group.start(async (signal) => {
    while (!signal.aborted) {
      await clock.sleep(intervalMs * (0.8 + 0.4 * Math.random()), signal);
      // This process may itself have been stopped for longer than the others wait.
      if (silentMs() >= fenceMs) return fenceOff();
      if (evictNote !== undefined && (await exists(evictNote))) {
        return fence.abort(new FencedError("evicted", silentMs()));
      }
      const startedAt = clock.monotonic();
      try {
        await rewriteRecord(path, identity, "live", ++beat);
        renewedAt = startedAt;
      } catch (error) {
        // The file system may come back before the fence.
        lastError = error;
      }
    }
  });
  // Apart from the beats: a call to a file system that hangs never returns.
  group.start(async (signal) => {
    while (!signal.aborted) {
      const leftMs = fenceMs - silentMs();
      if (leftMs <= 0) return fenceOff();
      await clock.sleep(leftMs, signal);
    }
  });
  return {
    fenced: fence.signal,
    stop: async () => {
      await group[Symbol.asyncDispose]();
      return beat;
    },
  };
}

async function exists(path: string): Promise<boolean> {
  return await access(path).then(
    () => true,
    () => false,
  );
}
