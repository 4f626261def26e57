import { rm } from "node:fs/promises";
import { join } from "node:path";
import { type Clock, systemClock } from "../base/clock.ts";
import { ensureDirectory, syncDirectory } from "../base/files.ts";
import type { BatchId, OwnerId, ShardId } from "../run/ids.ts";
import type { RunLayout } from "../run/layout.ts";
import { type Candidate, chooseCandidates } from "./candidates.ts";
import { assertBatchId, assertOwnerId, type Entry, entryName } from "./entry.ts";
import { readEpoch } from "./epoch.ts";
import { createExclusive, listIfThere, removeQuietly, sweepLeftovers } from "./exclusive.ts";
import { FsLease, move } from "./fs-lease.ts";
import { openShard } from "./open-shard.ts";
import type { Batch, BatchState, Lease, Queue, ShardCensus } from "./queue.ts";
import { accessing, accessingPatiently, QueueMissingError, ShardNameError } from "./queue-error.ts";
import {
  readSpec,
  renderSpec,
  renderSummary,
  type Spec,
  type Survey,
  surveyShard,
} from "./shard-files.ts";

export interface FsQueueOptions {
  readonly layout: RunLayout;
  /** Default: the highest that was begun. */
  readonly epoch?: number;
  readonly clock?: Clock;
}

/** What a queue object did since it was opened. */
export interface FsQueueCounters {
  claims: number;
  /** Renames tried in order to claim, won or lost. */
  claimAttempts: number;
}

/**
 * Opens the queue of a run directory. The state of a batch is the name of an empty file, and a rename inside one directory
 * is the compare-and-set. One object per owner and process: an owner that claims through two could take its own claim for
 * a lost race.
 * @throws {QueueMissingError} when no epoch has begun.
 */
export async function openFsQueue(options: FsQueueOptions): Promise<FsQueue> {
  const epoch = options.epoch ?? (await readEpoch(options.layout));
  if (epoch === undefined) throw new QueueMissingError(options.layout.queue);
  return new FsQueue(options.layout, epoch, options.clock ?? systemClock);
}

/** What this process remembers of a shard between two claims. */
interface ShardView {
  readonly spec: Spec;
  candidates: Candidate[];
  /** `{batch}.a{N}` that this object has claimed: never claimed twice, however old a listing is. */
  readonly taken: Set<string>;
  /** Settles when the claim at hand has ended: claims of one object and shard go one by one. */
  claiming: Promise<unknown>;
}

/** Shard names leave room for the additions of temporary files (`.{shard}.json.{12 digits}.tmp`) in 255 bytes. */
const maxShardNameBytes = 200;

export class FsQueue implements Queue {
  readonly epoch: number;
  readonly counters: FsQueueCounters = { claims: 0, claimAttempts: 0 };
  readonly #layout: RunLayout;
  readonly #clock: Clock;
  readonly #views = new Map<ShardId, ShardView>();
  readonly #held = new Set<FsLease>();
  /** Others that claim beside this object, about: doubles with each lost race, and fades. */
  #crowd = 0;
  #prepared = false;
  /** Temporary files beside the specifications when this object first published. */
  #leftBefore: readonly string[] = [];

  constructor(layout: RunLayout, epoch: number, clock: Clock) {
    this.#layout = layout;
    this.epoch = epoch;
    this.#clock = clock;
  }

  get held(): number {
    return this.#held.size;
  }

  async publish(shard: ShardId, batches: readonly Batch[]): Promise<boolean> {
    assertPublishable(shard, batches);
    const specs = this.#layout.specs(this.epoch);
    const { spec } = this.#layout.shard(this.epoch, shard);
    return await accessing("publish batches", specs, async () => {
      await this.#prepareEpoch();
      const created = await createExclusive(spec, renderSpec(shard, batches));
      // Whoever was killed here before may have left its temporary file.
      const left = this.#leftBefore.filter((name) => name.startsWith(`.${shard}.json.`));
      for (const name of left) await removeQuietly(join(specs, name));
      return created;
    });
  }

  async shards(): Promise<readonly ShardId[]> {
    const specs = this.#layout.specs(this.epoch);
    const names = await accessing("list shards", specs, () => listIfThere(specs));
    return (names ?? [])
      .filter((name) => name.endsWith(".json") && !name.startsWith("."))
      .map((name) => name.slice(0, -".json".length) as ShardId)
      .sort();
  }

  async batches(shard: ShardId): Promise<readonly Batch[]> {
    return (await this.#view(shard)).spec.batches;
  }

  async claim(shard: ShardId, owner: OwnerId): Promise<Lease | undefined> {
    assertOwnerId(owner);
    const view = await this.#view(shard);
    const { entries } = this.#layout.shard(this.epoch, shard);
    const claimed = view.claiming.then(() =>
      accessingPatiently("claim a batch", entries, () => this.#claimNext(view, owner)),
    );
    view.claiming = claimed.catch(() => {});
    return await claimed;
  }

  async census(shard: ShardId): Promise<ShardCensus> {
    const { spec } = await this.#view(shard);
    const { phase, states } = await this.#survey(spec);
    // A survey holds every batch of the specification.
    const inOrder = spec.batches.map(({ id }) => [id, states.get(id) as BatchState] as const);
    return {
      shard,
      opened: phase !== "unopened",
      folded: phase === "folded",
      batches: new Map(inOrder),
    };
  }

  async reclaim(shard: ShardId, owner: OwnerId): Promise<readonly BatchId[]> {
    const { spec } = await this.#view(shard);
    const { states } = await this.#survey(spec);
    const { entries } = this.#layout.shard(this.epoch, shard);
    const reclaimed: BatchId[] = [];
    for (const [batch, state] of states) {
      if (state.kind !== "owned" || state.owner !== owner) continue;
      const ready: Entry = { batch, state: { kind: "ready", attempt: state.attempt + 1 } };
      const moved = await accessingPatiently("reclaim a batch", entries, () =>
        move(entries, entryName({ batch, state }), entryName(ready), "anyone"),
      );
      if (moved) reclaimed.push(batch);
    }
    return reclaimed;
  }

  async fold(shard: ShardId): Promise<boolean> {
    const { spec } = await this.#view(shard);
    const { entries, folded } = this.#layout.shard(this.epoch, shard);
    const { phase, states } = await this.#survey(spec);
    if (phase === "unopened") return false;
    for (const { kind } of states.values()) if (kind !== "done") return false;
    return await accessingPatiently("fold a shard", entries, async () => {
      const created =
        phase === "open" && (await createExclusive(folded, renderSummary(shard, states)));
      // From here on the summary alone counts; what a killed one has left is removed by whoever folds again.
      for (const name of (await listIfThere(entries)) ?? []) {
        if (join(entries, name) !== folded) await rm(join(entries, name), { force: true });
      }
      await sweepLeftovers(this.#layout.shards(this.epoch), shard);
      return created;
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const { claiming } of this.#views.values()) await claiming;
  }

  async #view(shard: ShardId): Promise<ShardView> {
    const known = this.#views.get(shard);
    if (known !== undefined) return known;
    const { spec: path } = this.#layout.shard(this.epoch, shard);
    const spec = await accessingPatiently("read a shard", path, () =>
      readSpec(this.#layout, this.epoch, shard),
    );
    const view = { spec, candidates: [], taken: new Set<string>(), claiming: Promise.resolve() };
    // Two calls may have read it at once.
    const first = this.#views.get(shard) ?? view;
    this.#views.set(shard, first);
    return first;
  }

  /** Makes the directories of the epoch, durably. */
  async #prepareEpoch(): Promise<void> {
    if (this.#prepared) return;
    await ensureDirectory(this.#layout.specs(this.epoch));
    await ensureDirectory(this.#layout.shards(this.epoch));
    await syncDirectory(this.#layout.epoch(this.epoch));
    await syncDirectory(this.#layout.queue);
    const specs = (await listIfThere(this.#layout.specs(this.epoch))) ?? [];
    this.#leftBefore = specs.filter((name) => name.startsWith("."));
    this.#prepared = true;
  }

  async #survey(spec: Spec): Promise<Survey> {
    const { entries } = this.#layout.shard(this.epoch, spec.shard);
    return await accessingPatiently("read a shard", entries, () =>
      surveyShard(this.#layout, this.epoch, spec, this.#clock),
    );
  }

  async #claimNext(view: ShardView, owner: OwnerId): Promise<Lease | undefined> {
    for (let misses = 0; ; ) {
      const candidate = view.candidates.shift() ?? (await this.#refresh(view, owner));
      if (candidate === undefined) return undefined;
      const lease = await this.#take(view, candidate, owner);
      if (lease !== undefined) return lease;
      misses += 1;
      view.candidates = [];
      this.#crowd = Math.min(this.#crowd * 2 + 1, 64);
      // A network file system may show the same stale listing for a while.
      if (misses > 2) await this.#clock.sleep(Math.random() * Math.min(2 ** misses, 1_000));
    }
  }

  /** Looks again. @returns the first batch to try, or undefined when really none is ready. */
  async #refresh(view: ShardView, owner: OwnerId): Promise<Candidate | undefined> {
    let survey = await this.#survey(view.spec);
    if (survey.phase === "unopened") {
      await openShard(this.#layout, this.epoch, view.spec);
      survey = await this.#survey(view.spec);
    }
    const others = new Set<OwnerId>();
    for (const state of survey.states.values()) {
      if (state.kind === "owned" && state.owner !== owner) others.add(state.owner);
    }
    const inOrder = view.spec.batches.flatMap(({ id }) => {
      const state = survey.states.get(id);
      const fresh = state !== undefined && !view.taken.has(`${id}.a${state.attempt}`);
      return fresh ? [[id, state] as const] : [];
    });
    this.#crowd = Math.floor(this.#crowd * 0.9);
    const crowd = Math.max(others.size, this.#crowd);
    view.candidates = chooseCandidates(inOrder, crowd, Math.random());
    return view.candidates.shift();
  }

  async #take(view: ShardView, from: Candidate, owner: OwnerId): Promise<Lease | undefined> {
    const { entries } = this.#layout.shard(this.epoch, view.spec.shard);
    const { batch, attempt } = from;
    const owned: Entry = { batch, state: { kind: "owned", attempt, owner } };
    this.counters.claimAttempts += 1;
    view.taken.add(`${batch}.a${attempt}`);
    const ready = entryName({ batch, state: { kind: "ready", attempt } });
    let moved = false;
    try {
      moved = await move(entries, ready, entryName(owned), "me");
    } finally {
      if (!moved) view.taken.delete(`${batch}.a${attempt}`);
    }
    if (!moved) return undefined;
    this.counters.claims += 1;
    const { shard, byId } = view.spec;
    const lease = new FsLease(shard, byId.get(batch) as Batch, owned, entries, (ended) =>
      this.#held.delete(ended),
    );
    this.#held.add(lease);
    return lease;
  }
}

/** @throws {ShardNameError} @throws {RangeError} for what no caller of ours should ever pass. */
function assertPublishable(shard: ShardId, batches: readonly Batch[]): void {
  if (!/^[A-Za-z0-9_-][A-Za-z0-9_.-]*$/.test(shard))
    throw new RangeError(`Not a shard: "${shard}"`);
  if (Buffer.byteLength(shard) > maxShardNameBytes) {
    throw new ShardNameError(shard, maxShardNameBytes);
  }
  if (batches.length === 0) throw new RangeError(`No batches in shard "${shard}"`);
  for (const { id } of batches) assertBatchId(id);
  if (new Set(batches.map(({ id }) => id)).size < batches.length) {
    throw new RangeError(`A batch is twice in shard "${shard}"`);
  }
}
