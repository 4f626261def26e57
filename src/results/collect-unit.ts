/** The rows of one unit. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { EnvironmentError, errnoAdvice, errnoName, isMissing, messageOf } from "../base/errors.ts";
import { mapConcurrently } from "../base/map-concurrently.ts";
import { parseResultFile } from "../lmeval/result-file.ts";
import type { Leaf } from "../lmeval/task-tree.ts";
import { type LeafFileIndex, readUnitCoverage } from "../run/coverage.ts";
import type { Fingerprint, LeafId, UnitId } from "../run/ids.ts";
import { leafFileName } from "../run/layout.ts";
import type { LeafLabel } from "./leaf-labels.ts";
import type { ScoreRow } from "./row.ts";
import { leafRows, type ModelColumns } from "./rows.ts";

/** What came of the planned leaves of one unit. */
export interface UnitReport {
  readonly unit: UnitId;
  readonly planned: number;
  /** Leaves whose rows are in the table. */
  readonly complete: number;
  /** No result yet: open, running or dead. */
  readonly missing: readonly LeafId[];
  /** Evaluated, but the scores can't be trusted. */
  readonly invalid: readonly LeafId[];
  /** A leaf file is there and can't be used. */
  readonly unreadable: readonly { readonly path: string; readonly reason: string }[];
  /** Leaves whose rows are in the table, and whose model was served by another command than the plan's. */
  readonly served_otherwise: readonly LeafId[];
}

/** A unit with all that is needed to find its leaf files. */
export interface CollectedUnit {
  readonly id: UnitId;
  readonly model: ModelColumns;
  /** Of its leaf files. */
  readonly directory: string;
  readonly fingerprints: Readonly<Record<LeafId, Fingerprint>>;
  readonly index: LeafFileIndex;
  /** As `serverCommandHash` gives it. */
  readonly server: string | null;
}

/** One readdir, then the leaf files that the plan names, several at a time. */
export async function collectUnit(
  unit: CollectedUnit,
  leaves: Readonly<Record<LeafId, Leaf>>,
  labels: ReadonlyMap<LeafId, LeafLabel>,
): Promise<{ rows: ScoreRow[]; report: UnitReport }> {
  const { done, invalid } = await readUnitCoverage(unit.directory, unit.index).catch(
    (error: unknown) => {
      throw cannotRead(unit.directory, error);
    },
  );
  const planned = Object.entries<Fingerprint>(unit.fingerprints) as [LeafId, Fingerprint][];
  const missing = planned.map(([id]) => id).filter((id) => !done.has(id) && !invalid.has(id));
  const served_otherwise: LeafId[] = [];
  const unreadable: UnitReport["unreadable"][number][] = [];
  const found = planned.filter(([id]) => done.has(id));
  const rows = await mapConcurrently(found, async ([id, fingerprint]) => {
    const path = join(unit.directory, leafFileName(id, fingerprint));
    const [leaf, label] = [leaves[id], labels.get(id)];
    if (leaf === undefined || label === undefined)
      throw new TypeError(`No leaf "${id}" in the plan`);
    const read = await readLeaf(path, { name: leaf.name, fingerprint, model: unit.model, label });
    if ("rows" in read) {
      const { server } = read;
      if (server !== undefined && server !== unit.server) served_otherwise.push(id);
      return read.rows;
    }
    if (read.reason === undefined) missing.push(id);
    else unreadable.push({ path, reason: read.reason });
    return undefined;
  });
  const complete = rows.filter((some) => some !== undefined);
  const report = {
    unit: unit.id,
    planned: planned.length,
    complete: complete.length,
    missing,
    invalid: [...invalid],
    unreadable,
    served_otherwise: served_otherwise.sort(),
  };
  return { rows: complete.flat(), report };
}

interface ReadLeaf {
  readonly rows: ScoreRow[];
  /** As the result file has it. */
  readonly server: string | null | undefined;
}

/** The rows of a leaf file, or why it can't be used; no reason: it is gone again. */
async function readLeaf(
  path: string,
  expected: {
    readonly name: string;
    readonly fingerprint: Fingerprint;
    readonly model: ModelColumns;
    readonly label: LeafLabel;
  },
): Promise<ReadLeaf | { reason: string | undefined }> {
  try {
    const file = parseResultFile(await readFile(path, "utf8"));
    const { fingerprint, server_command_sha256: server } = file.eval_hive;
    if (fingerprint !== expected.fingerprint) {
      return { reason: `it holds the fingerprint ${fingerprint ?? "of nobody"}` };
    }
    const task = file.tasks.get(expected.name);
    if (task === undefined) return { reason: `it has no results of "${expected.name}"` };
    const { model, label } = expected;
    return { rows: leafRows(file, task, { model, label, path }), server };
  } catch (error) {
    if (isMissing(error)) return { reason: undefined };
    return { reason: errnoAdvice(error) ?? messageOf(error) };
  }
}

function cannotRead(path: string, cause: unknown): unknown {
  if (errnoName(cause) === undefined) return cause;
  return new EnvironmentError(
    "results.read",
    `Cannot read results in "${path}": ${errnoAdvice(cause) ?? messageOf(cause)}`,
    { cause },
  );
}
