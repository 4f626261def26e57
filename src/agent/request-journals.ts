import { readdir, rm, rmdir, stat } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { isMissing, messageOf } from "../base/errors.ts";
import { expandEnvVars } from "../run/environment.ts";
import { type Fingerprint, type LeafId, type OwnerId, shortFingerprint } from "../run/ids.ts";
import type { BalancerClient } from "./balancer-client.ts";
import type { WorkUnit } from "./unit.ts";

/** A leaf, as a run request has it. */
export interface JournalLeaf {
  readonly id: LeafId;
  readonly fingerprint: Fingerprint;
}

/**
 * Where the answered requests of a unit's leaves in progress are kept, so that an evaluation that is cut off need not be asked
 * again. Trouble with them is told and fails nothing.
 */
export interface RequestJournals {
  /**
   * Opens one for each leaf of a run, in the order of the run's request: it gives what interrupted evaluations were answered.
   * @param onOff nothing more is kept of a leaf, and why
   * @returns leaves of which there are such answers
   */
  open(
    account: string,
    leaves: readonly JournalLeaf[],
    onOff: (leaf: LeafId, reason: string) => void,
  ): Promise<ReadonlySet<LeafId>>;
  /** The run is over: what is kept of its leaves stays for the next evaluation. */
  close(account: string): Promise<void>;
  /** The leaf, `index`-th of a run, is settled or has failed: nothing of it may be given again. */
  drop(account: string, index: number, leaf: JournalLeaf): Promise<void>;
  /** Removes all but those of these leaves. */
  sweep(open: readonly JournalLeaf[]): Promise<void>;
}

export interface RequestJournalsOptions {
  /** Of this unit alone; made when there is something to keep. Its parent is this run's. */
  readonly directory: string;
  readonly owner: OwnerId;
  /** Of all journals of the unit, those that lie there already included. One leaf has a quarter of it. */
  readonly limitBytes: number;
  readonly balancer: Pick<BalancerClient, "openJournal" | "closeJournals">;
}

interface JournalFile {
  readonly path: string;
  /** `{leaf id}.{fp12}` */
  readonly leaf: string;
}

/** `{leaf id}.{fp12}.{owner}-{account}.{life of the balancer}` */
const fileName = /^(?<leaf>.+\.[0-9a-f]{12})\.[a-z0-9-]+\.\d+$/;

/** Holds a directory per unit of this run. @throws {EnvironmentError} when the config's place can't be expanded. */
export async function journalsRoot(
  { profile, layout, plan }: Pick<WorkUnit, "profile" | "layout" | "plan">,
  env: NodeJS.ProcessEnv,
  signal: AbortSignal,
): Promise<string> {
  const place = profile.journal?.directory ?? null;
  if (place === null) return layout.journals;
  const cwd = plan.working_directory;
  const { place: expanded = place } = await expandEnvVars({ place }, env, { cwd, signal });
  // Of a variable that this node does not have. Not the working directory: nobody would look there.
  if (expanded === "") return layout.journals;
  return join(resolve(cwd, expanded), plan.run_id);
}

export function openRequestJournals(options: RequestJournalsOptions): RequestJournals {
  const { directory, owner, limitBytes, balancer } = options;
  /** Of runs that are not over: what they write counts at the balancer. */
  const writing = new Set<string>();

  async function open(
    account: string,
    leaves: readonly JournalLeaf[],
    onOff: (leaf: LeafId, reason: string) => void,
  ): Promise<ReadonlySet<LeafId>> {
    const replayed = new Set<LeafId>();
    const files = await listJournals(directory);
    const sizes = await Promise.all(files.map(({ path }) => sizeOf(path)));
    const isKept = ({ path }: JournalFile) => ![...writing].some((own) => path.startsWith(own));
    const kept = files.map((file, n) => ({ ...file, bytes: isKept(file) ? (sizes[n] ?? 0) : 0 }));
    const left = limitBytes - sumOf(kept);
    for (const [index, { id, fingerprint }] of leaves.entries()) {
      const leaf = `${id}.${shortFingerprint(fingerprint)}`;
      const earlier = kept.filter((file) => file.leaf === leaf);
      if (earlier.length > 0) replayed.add(id);
      const write = join(directory, `${leaf}.${owner}-${account}`);
      writing.add(`${write}.`);
      const journal = {
        read: earlier.map(({ path }) => path),
        write,
        limitBytes: Math.max(0, Math.floor(limitBytes / 4) - sumOf(earlier)),
        budget: { name: directory, limitBytes: Math.max(0, left) },
      };
      balancer.openJournal(account, index, journal, (reason) => onOff(id, reason));
    }
    return replayed;
  }

  return {
    open: async (account, leaves, onOff) => {
      try {
        return await open(account, leaves, onOff);
      } catch (error) {
        for (const { id } of leaves) onOff(id, messageOf(error));
        return new Set();
      }
    },
    close: async (account) => {
      await balancer.closeJournals(account);
      for (const own of writing) if (own.endsWith(`-${account}.`)) writing.delete(own);
    },
    drop: async (account, index, { id, fingerprint }) => {
      await balancer.closeJournals(account, index);
      const leaf = `${id}.${shortFingerprint(fingerprint)}`;
      await removeAll(directory, (file) => file.leaf === leaf);
    },
    sweep: async (leaves) => await sweepJournals(directory, leaves),
  };
}

/** Removes all journals of a unit but those of these leaves, then its directory, and its run's, if they are empty. */
async function sweepJournals(directory: string, leaves: readonly JournalLeaf[]): Promise<void> {
  const open = new Set(leaves.map((leaf) => `${leaf.id}.${shortFingerprint(leaf.fingerprint)}`));
  await removeAll(directory, (file) => !open.has(file.leaf));
  for (const empty of [directory, dirname(directory)]) await rmdir(empty).catch(() => {});
}

/**
 * Removes the journals of all units that are below a run's place, but for those of leaves that are open.
 * @param openLeavesOf a unit by its id; undefined: its journals stay
 */
export async function sweepRoot(
  root: string,
  openLeavesOf: (unit: string) => Promise<readonly JournalLeaf[] | undefined>,
): Promise<void> {
  for (const unit of await readdir(root).catch(() => [])) {
    const open = await openLeavesOf(unit);
    if (open !== undefined) await sweepJournals(join(root, unit), open);
  }
}

/** What can't be removed now is left: whoever is the next to work here tries again. */
async function removeAll(
  directory: string,
  isUnwanted: (file: JournalFile) => boolean,
): Promise<void> {
  const files = await listJournals(directory).catch(() => []);
  for (const file of files)
    if (isUnwanted(file)) await rm(file.path, { force: true }).catch(() => {});
}

/** In the order of their names. */
async function listJournals(directory: string): Promise<JournalFile[]> {
  const names = await readdir(directory).catch((error: unknown) => {
    if (isMissing(error)) return [];
    throw error;
  });
  return names.sort().flatMap((name) => {
    const leaf = fileName.exec(name)?.groups?.["leaf"];
    return leaf === undefined ? [] : [{ path: join(directory, name), leaf }];
  });
}

async function sizeOf(path: string): Promise<number> {
  return await stat(path).then(
    ({ size }) => size,
    () => 0,
  );
}

function sumOf(files: readonly { readonly bytes: number }[]): number {
  return files.reduce((sum, { bytes }) => sum + bytes, 0);
}
