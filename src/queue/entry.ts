import type { BatchId, OwnerId } from "../run/ids.ts";
import type { BatchState } from "./queue.ts";

/** A batch and where it stands: what the name of an entry says. The file itself is empty. */
export interface Entry {
  readonly batch: BatchId;
  readonly state: BatchState;
}

const pattern = /^([a-z0-9-]+)\.a([1-9]\d*)\.(?:(r)|(d)|o\.([a-z0-9-]+))$/;

/** `{batch}.a{N}.{r|o.owner|d}`: under 130 bytes. */
export function entryName({ batch, state }: Entry): string {
  const stem = `${batch}.a${state.attempt}`;
  switch (state.kind) {
    case "ready":
      return `${stem}.r`;
    case "owned":
      return `${stem}.o.${state.owner}`;
    case "done":
      return `${stem}.d`;
  }
}

/** The entry that a file name says, or undefined for any other file (`.nfs…`, temporary files, the summary). */
export function parseEntryName(name: string): Entry | undefined {
  const match = pattern.exec(name);
  if (match === null) return undefined;
  const [, batch, attemptText, ready, done, owner] = match;
  const attempt = Number(attemptText);
  const state: BatchState =
    ready !== undefined
      ? { kind: "ready", attempt }
      : done !== undefined
        ? { kind: "done", attempt }
        : { kind: "owned", attempt, owner: owner as OwnerId };
  return { batch: batch as BatchId, state };
}

const rank = { ready: 0, owned: 1, done: 2 } as const;

/** True when a batch passes through `a` after `b`: of two names seen in one scan, the later is the true one. */
export function isLater(a: BatchState, b: BatchState): boolean {
  return a.attempt === b.attempt ? rank[a.kind] > rank[b.kind] : a.attempt > b.attempt;
}

/** @throws {RangeError} when the id can't be part of an entry's name. */
export function assertBatchId(id: BatchId): void {
  if (!/^[a-z0-9-]{1,40}$/.test(id)) throw new RangeError(`Not a batch id: "${id}"`);
}

/** @throws {RangeError} when the id can't be part of an entry's name. */
export function assertOwnerId(id: OwnerId): void {
  if (!/^[a-z0-9-]{1,60}$/.test(id)) throw new RangeError(`Not an owner id: "${id}"`);
}
