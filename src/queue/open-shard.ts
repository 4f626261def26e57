import { randomBytes } from "node:crypto";
import { access, mkdir, open, rename } from "node:fs/promises";
import { join } from "node:path";
import { syncDirectory } from "../base/files.ts";
import type { RunLayout } from "../run/layout.ts";
import { entryName } from "./entry.ts";
import { removeQuietly, sweepLeftovers } from "./exclusive.ts";
import type { Spec } from "./shard-files.ts";

/** Files created at a time: more only queue up before libuv's threads. */
const atOnce = 8;

async function isThere(path: string): Promise<boolean> {
  return await access(path).then(
    () => true,
    () => false,
  );
}

/** Builds the entries of a shard, all ready, in a directory that no reader looks at. */
async function buildEntries(staging: string, spec: Spec): Promise<void> {
  await mkdir(staging);
  for (let from = 0; from < spec.batches.length; from += atOnce) {
    const some = spec.batches.slice(from, from + atOnce).map(async ({ id }) => {
      const name = entryName({ batch: id, state: { kind: "ready", attempt: 1 } });
      await (await open(join(staging, name), "wx")).close();
    });
    // Settled, not all: nothing may still be creating files when the directory is removed.
    const failed = (await Promise.allSettled(some)).find((one) => one.status === "rejected");
    if (failed !== undefined) throw failed.reason;
  }
  await syncDirectory(staging);
}

/**
 * Opens a shard: from then on each of its batches is an entry. Of several that do so at once one succeeds, and all return.
 * The entry directory is never empty and never removed, so the rename of a late one fails; that is also why its staging
 * directory may be removed under its hands.
 */
export async function openShard(layout: RunLayout, epoch: number, spec: Spec): Promise<void> {
  const { entries } = layout.shard(epoch, spec.shard);
  const shards = layout.shards(epoch);
  const staging = join(shards, `.${spec.shard}.${randomBytes(6).toString("hex")}`);
  try {
    await buildEntries(staging, spec);
    await rename(staging, entries);
    await syncDirectory(shards);
  } catch (error) {
    // Somebody else opened it, or the file system reports a rename that it did as failed.
    if (!(await isThere(entries))) {
      await removeQuietly(staging);
      throw error;
    }
  }
  // Of killed or late openers: the shard is open, so theirs can't become it any more.
  await sweepLeftovers(shards, spec.shard);
}
