/** Collects the leaf files of a run into one table. */
import { stat } from "node:fs/promises";
import { EnvironmentError, errnoAdvice, errnoName, messageOf } from "../base/errors.ts";
import { indexLeafFiles, type LeafFileIndex } from "../run/coverage.ts";
import type { UnitId } from "../run/ids.ts";
import { leafDirectory, type RunLayout } from "../run/layout.ts";
import type { ManifestEntry } from "../run/manifest.ts";
import { type Plan, serverCommandHash } from "../run/plan.ts";
import { readRun } from "../run/read-run.ts";
import { type Changes, readOldScores, trackChanges } from "./changes.ts";
import { type CollectedUnit, collectUnit, type UnitReport } from "./collect-unit.ts";
import { labelLeaves } from "./leaf-labels.ts";
import { compareKeys, keyColumns, type ScoreRow } from "./row.ts";
import { modelColumns } from "./rows.ts";
import { type TableMetadata, writeTable } from "./table.ts";

export interface CollectReport {
  /** Absolute. */
  readonly output: string;
  readonly run_id: string;
  readonly rows: number;
  readonly units: readonly UnitReport[];
  /** Against the file that was there before; undefined when there was none. */
  readonly changes: Changes | undefined;
  /** Checkpoints that the plan does not hold yet: no unit, so they are not among what is missing. */
  readonly not_found: Plan["not_found"];
  readonly warnings: readonly string[];
}

export interface CollectOptions {
  /** Absolute. */
  readonly output: string;
  /** Of eval-hive, for the table's metadata. */
  readonly version: string;
}

/**
 * Writes the scores of every planned leaf that has a valid result: exactly one row set per unit and leaf, whatever else
 * lies in the results directories. Works while agents run, and with a run directory that is read-only. Memory stays at the
 * rows of one model and step.
 * @throws {RunDirectoryError} @throws {TableReadError} @throws {EnvironmentError} when results or the table are out of reach.
 */
export async function collectScores(
  layout: RunLayout,
  options: CollectOptions,
): Promise<CollectReport> {
  const { output, version } = options;
  const { plan, manifest } = await readRun(layout);
  const units = listUnits(plan, manifest);
  const old = await readOldScores(output);
  await refuseLostResults(plan, output, old?.size ?? 0);
  const tracker = old === undefined ? undefined : trackChanges(old);
  const labels = labelLeaves(plan);
  const reports: UnitReport[] = [];
  let nRows = 0;

  async function* tableRows(): AsyncGenerator<readonly ScoreRow[]> {
    for (const group of groupByKey(units)) {
      const rows: ScoreRow[] = [];
      for (const unit of group) {
        const collected = await collectUnit(unit, plan.leaves, labels);
        rows.push(...collected.rows);
        reports.push(collected.report);
      }
      for (const row of rows) tracker?.see(row);
      nRows += rows.length;
      yield rows.sort(compareKeys);
    }
  }

  await writeScores(output, tableRows(), tableMetadata(plan, version));
  return {
    output,
    run_id: plan.run_id,
    rows: nRows,
    units: reports,
    changes: tracker?.result(),
    not_found: plan.not_found,
    warnings: [...warnAboutTwins(units), ...warnAboutServers(reports)],
  };
}

/** Units in the table's order. */
function listUnits(plan: Plan, manifest: ReadonlyMap<UnitId, ManifestEntry>): CollectedUnit[] {
  const indexes = new Map<string, LeafFileIndex>();
  return plan.units
    .map(({ id, profile }) => {
      const entry = manifest.get(id);
      const settings = plan.profiles[profile];
      if (entry === undefined || settings === undefined) {
        throw new TypeError(`Unit "${id}" of the plan has no manifest entry or no profile`);
      }
      const { fingerprints } = settings;
      const server = serverCommandHash(settings);
      const index = indexes.get(profile) ?? indexLeafFiles(fingerprints);
      indexes.set(profile, index);
      const directory = leafDirectory(plan.output_path, entry);
      return { id, model: modelColumns(entry), directory, fingerprints, index, server };
    })
    .sort(compareUnits);
}

function compareUnits(a: CollectedUnit, b: CollectedUnit): number {
  const noLeaf = { task: null, metric: null, metric_filter: null };
  return compareKeys({ ...a.model, ...noLeaf }, { ...b.model, ...noLeaf });
}

/** Neighbours with the same model and step: their rows are sorted together. */
function* groupByKey(units: readonly CollectedUnit[]): Generator<CollectedUnit[]> {
  let group: CollectedUnit[] = [];
  for (const unit of units) {
    const [first] = group;
    if (first !== undefined && compareUnits(first, unit) !== 0) {
      yield group;
      group = [];
    }
    group.push(unit);
  }
  if (group.length > 0) yield group;
}

function warnAboutTwins(units: readonly CollectedUnit[]): string[] {
  return [...groupByKey(units)]
    .filter((group) => group.length > 1)
    .map((group) => {
      const ids = group.map(({ id }) => `"${id}"`).join(", ");
      return `${ids} have the same model and step: their rows can't be told apart by the key; give each a model_key of its own`;
    });
}

/** How a model is served should not change its scores; sometimes it does. */
function warnAboutServers(units: readonly UnitReport[]): string[] {
  return units.flatMap(({ unit, complete, served_otherwise: leaves }) => {
    if (leaves.length === 0) return [];
    const first = leaves.slice(0, 3).join(", ");
    const named = leaves.length > 3 ? `${first} and ${leaves.length - 3} more` : first;
    return [
      `"${unit}": ${leaves.length} of ${complete} results were made with another inference_server_command than the run has now (${named}); they count`,
    ];
  });
}

/** An output path that is not mounted looks like a run without results: no reason to empty the table. */
async function refuseLostResults(plan: Plan, output: string, nOldRows: number): Promise<void> {
  if (nOldRows === 0) return;
  try {
    await stat(plan.output_path);
  } catch (error) {
    throw new EnvironmentError(
      "results.output-path",
      `Cannot collect: the results directory "${plan.output_path}" is out of reach: ${messageOf(error)}`,
      { cause: error, hint: `Mount it, or move "${output}" away to start a new table.` },
    );
  }
}

async function writeScores(
  output: string,
  rows: AsyncIterable<readonly ScoreRow[]>,
  metadata: TableMetadata,
): Promise<void> {
  try {
    await writeTable(output, rows, metadata);
  } catch (error) {
    if (errnoName(error) === undefined) throw error;
    throw new EnvironmentError(
      "results.write",
      `Cannot write "${output}": ${errnoAdvice(error) ?? messageOf(error)}`,
      { cause: error, hint: "Name another place with --output FILE." },
    );
  }
}

function tableMetadata(plan: Plan, version: string): TableMetadata {
  return {
    schema_version: 1,
    writer: `eval-hive ${version}`,
    run_id: plan.run_id,
    sorted_by: [...keyColumns],
    nulls: "first",
    json_text: 'as Python\'s json.dumps: ", " and ": ", ASCII only',
  };
}
