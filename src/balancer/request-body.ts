import type { Clock } from "../base/clock.ts";
import { type Blocks, HeldBody } from "./blocks.ts";
import type { HeldBytes } from "./held-bytes.ts";
import type { Limits } from "./limits.ts";

/**
 * `whole`: all of it is held. `large`: as much as may be held is here, and more will come. Else it is no use, and the rest of it
 * is not read.
 */
export type Received = "whole" | "large" | "too-large" | "too-slow" | "gone";

/** Where a body comes from: calls `take` and `end` of it. */
export interface BodySource {
  /** It is wanted: to a client that waits for that it must be said. */
  invite(): void;
  /** Nothing more shall come for now. */
  pause(): void;
  resume(): void;
  /** Nobody wants to hear of the client any more. */
  destroy(): void;
}

/** Takes what follows after the part of a large body that is held. */
export interface BodyFollower {
  /** @returns false when it has enough for now: `resume` asks for more */
  write(chunk: Buffer): boolean;
  end(): void;
  fail(why: "too-large" | "too-slow"): void;
}

export interface BodyDeps {
  readonly limits: Limits;
  readonly held: HeldBytes;
  readonly blocks: Blocks;
  readonly clock: Clock;
}

/** Smaller ones are never made to wait for room. */
const smallBytes = 64 << 10;
/** A client that has its answer may go on sending for so long. */
const discardMs = 5_000;

/** The body of a client's request: held whole if it is not large, in the chunks that it came in. */
export class RequestBody {
  readonly #source: BodySource;
  readonly #limits: Limits;
  readonly #held: HeldBytes;
  readonly #clock: Clock;
  /** As the client announced it; undefined when it did not. */
  readonly length: number | undefined;
  #chunks: Buffer[] = [];
  /** Instead of these: a body that is neither small nor will be streamed. */
  readonly #blocks: HeldBody | undefined;
  #size = 0;
  #complete = false;
  /** Of `held`. */
  #taken = 0;
  /** Called when there is room for it; set while it waits for that. */
  #waiting: (() => void) | undefined;
  #done: ((received: Received) => void) | undefined;
  #follower: BodyFollower | undefined;
  #replayable = true;
  #invited = false;
  /** Bytes, once they are not wanted any more. */
  #discarded: number | undefined;
  #discardedSince = 0;
  readonly #startedAt: number;
  #pausedAt: number | undefined;
  #pausedMs = 0;

  /** @param length as the client announced it; undefined: it ends when it ends */
  constructor(source: BodySource, length: number | undefined, deps: BodyDeps) {
    this.#source = source;
    this.length = length;
    if (length !== undefined && length > smallBytes && length <= deps.limits.holdBytes) {
      this.#blocks = new HeldBody(deps.blocks);
    }
    this.#limits = deps.limits;
    this.#held = deps.held;
    this.#clock = deps.clock;
    this.#startedAt = deps.clock.monotonic();
  }

  /** What is held, in order. */
  get chunks(): readonly Buffer[] {
    return this.#blocks?.chunks ?? this.#chunks;
  }

  /** Of all that has come. */
  get size(): number {
    return this.#size;
  }

  get complete(): boolean {
    return this.#complete;
  }

  /** All that has come is held. */
  get replayable(): boolean {
    return this.#replayable;
  }

  /** Reads as much as may be held. @param done called once, at once or later */
  receive(done: (received: Received) => void): void {
    const { length } = this;
    this.#done = done;
    if (length === 0) {
      this.#complete = true;
      this.#received("whole");
    } else if (length !== undefined && length > this.#limits.bodyBytes) {
      this.#received("too-large");
    } else if (length !== undefined && length <= smallBytes) {
      this.#held.take(length);
      this.#taken = length;
      this.#invite();
    } else {
      this.#reserve(Math.min(length ?? Number.POSITIVE_INFINITY, this.#limits.holdBytes));
    }
  }

  /** The next piece has come. @param chunk is used again after the call */
  take(chunk: Buffer): void {
    if (this.#discarded !== undefined) {
      this.#drop(chunk);
      return;
    }
    this.#size += chunk.length;
    if (this.#blocks !== undefined) this.#blocks.append(chunk);
    else if (this.#size > this.#limits.bodyBytes) this.fail("too-large");
    else if (this.#follower !== undefined) this.#pass(this.#follower, Buffer.from(chunk));
    else this.#hold(Buffer.from(chunk));
  }

  /** Nothing more will come. */
  end(): void {
    if (this.#complete) return;
    this.#complete = true;
    this.#received("whole");
    this.#follower?.end();
    this.#follower = undefined;
    // Of what was reserved for a body that did not say its length.
    if (this.#replayable && this.#taken > this.#size) {
      this.#held.give(this.#taken - this.#size);
      this.#taken = this.#size;
    }
  }

  /** Hands on all that is not held, as it comes. */
  follow(follower: BodyFollower): void {
    this.#follower = follower;
    this.resume();
  }

  /** The follower of a large body is gone: nothing more is read. */
  unfollow(): void {
    this.#follower = undefined;
    this.#pause();
  }

  resume(): void {
    if (this.#pausedAt !== undefined) this.#pausedMs += this.#clock.monotonic() - this.#pausedAt;
    this.#pausedAt = undefined;
    this.#source.resume();
  }

  /** Ends it when it comes so slowly that it may do so for ever. */
  tick(): void {
    if (this.#complete) return;
    if (this.#discarded === undefined) {
      if (this.#isTooSlow) this.fail("too-slow");
    } else if (this.#clock.monotonic() - this.#discardedSince > discardMs) {
      this.#source.destroy();
    }
  }

  /** It is no use any more: whoever waits for it is told why. */
  fail(why: "too-large" | "too-slow"): void {
    this.#source.pause();
    this.#received(why);
    this.#follower?.fail(why);
    this.#follower = undefined;
  }

  /** It is not wanted any more, but its client must be able to read our answer before it has sent all of it. */
  discard(): void {
    if (this.#complete) return;
    this.#discarded = 0;
    this.#discardedSince = this.#clock.monotonic();
    this.resume();
  }

  /** The client is gone. */
  abandon(): void {
    this.#received("gone");
  }

  /** Forgets what is held. */
  release(): void {
    if (this.#waiting !== undefined) this.#held.giveUp(this.#waiting);
    this.#waiting = undefined;
    this.#chunks = [];
    this.#blocks?.release();
    this.#replayable = false;
    this.#held.give(this.#taken);
    this.#taken = 0;
  }

  get #isTooSlow(): boolean {
    if (this.#pausedAt !== undefined || this.#waiting !== undefined) return false;
    const { bodyMs, bodyBytesPerS } = this.#limits;
    const allowedMs = bodyMs + (this.#size / bodyBytesPerS) * 1000;
    return this.#clock.monotonic() - this.#startedAt - this.#pausedMs > allowedMs;
  }

  #reserve(bytes: number): void {
    const waitsFrom = this.#clock.monotonic();
    const go = (): void => {
      this.#waiting = undefined;
      this.#pausedMs += this.#clock.monotonic() - waitsFrom;
      this.#taken = bytes;
      this.#invite();
      this.#source.resume();
    };
    this.#waiting = go;
    if (this.#held.reserve(bytes, go)) go();
    else this.#source.pause();
  }

  #invite(): void {
    if (this.#invited) return;
    this.#invited = true;
    this.#source.invite();
  }

  #hold(chunk: Buffer): void {
    this.#chunks.push(chunk);
    if (this.#size <= this.#limits.holdBytes) return;
    this.#pause();
    this.#received("large");
  }

  #drop(chunk: Buffer): void {
    this.#discarded = (this.#discarded ?? 0) + chunk.length;
    if (this.#discarded > this.#limits.holdBytes) this.#source.destroy();
  }

  #pass(follower: BodyFollower, chunk: Buffer): void {
    if (this.#replayable) this.release();
    if (!follower.write(chunk)) this.#pause();
  }

  #pause(): void {
    this.#pausedAt ??= this.#clock.monotonic();
    this.#source.pause();
  }

  #received(received: Received): void {
    const done = this.#done;
    this.#done = undefined;
    done?.(received);
  }
}
