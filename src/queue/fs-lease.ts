import { access, rename } from "node:fs/promises";
import { join } from "node:path";
import { isMissing } from "../base/errors.ts";
import type { ShardId } from "../run/ids.ts";
import { type Entry, entryName } from "./entry.ts";
import type { Batch, Lease } from "./queue.ts";
import { accessingPatiently } from "./queue-error.ts";

/** A lease whose batch is the entry named `owned`. */
export class FsLease implements Lease {
  readonly shard: ShardId;
  readonly batch: Batch;
  readonly attempt: number;
  readonly #owned: Entry;
  readonly #entries: string;
  readonly #onEnd: (lease: FsLease) => void;
  /** Set by the first call that ends the lease; later calls get its answer. */
  #ended: { readonly as: "done" | "ready"; readonly held: Promise<boolean> } | undefined;

  /** @param onEnd called once, when the batch is done, given back, or found to be somebody else's */
  constructor(
    shard: ShardId,
    batch: Batch,
    owned: Entry,
    entries: string,
    onEnd: (lease: FsLease) => void,
  ) {
    this.shard = shard;
    this.batch = batch;
    this.attempt = owned.state.attempt;
    this.#owned = owned;
    this.#entries = entries;
    this.#onEnd = onEnd;
  }

  finish(): Promise<boolean> {
    return this.#end("done", this.attempt);
  }

  release(): Promise<boolean> {
    return this.#end("ready", this.attempt + 1);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#ended === undefined) await this.release();
  }

  async #end(kind: "done" | "ready", attempt: number): Promise<boolean> {
    if (this.#ended !== undefined && this.#ended.as !== kind) return false;
    if (this.#ended === undefined) {
      const next = entryName({ batch: this.batch.id, state: { kind, attempt } });
      const held = accessingPatiently("end a lease", this.#entries, () =>
        move(this.#entries, entryName(this.#owned), next, kind === "done" ? "me" : "anyone"),
      );
      this.#ended = { as: kind, held };
      held.then(
        () => this.#onEnd(this),
        // An error is no end: the call may be repeated.
        () => {
          this.#ended = undefined;
        },
      );
    }
    return await this.#ended.held;
  }
}

/**
 * Renames inside `directory`. A network file system may answer a rename that it did with an error, because it had to send
 * the call twice (rename(2)): then the new name tells, and "not there" is believed only where others make that name too.
 * @param maker who can make the new name: only this caller, or anyone
 * @returns false when the old name is not there: somebody else moved it.
 */
export async function move(
  directory: string,
  from: string,
  to: string,
  maker: "me" | "anyone",
): Promise<boolean> {
  try {
    await rename(join(directory, from), join(directory, to));
    return true;
  } catch (error) {
    if (isMissing(error) && maker === "anyone") return false;
    try {
      await access(join(directory, to));
      return true;
    } catch {
      if (isMissing(error)) return false;
      throw error;
    }
  }
}
