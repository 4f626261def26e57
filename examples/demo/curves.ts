/**
 * Prints how the scores of a scores.parquet change with training, a line per task and metric:
 *
 *     node examples/demo/curves.ts runs/demo/scores.parquet
 */
import { asyncBufferFromFile, parquetReadObjects } from "hyparquet";
import { compressors } from "hyparquet-compressors";

/** What we read of a row. `step` is null for a model that is no checkpoint. */
export interface Score {
  readonly model: string;
  readonly step: bigint | null;
  readonly task: string;
  readonly metric: string;
  readonly metric_filter: string;
  readonly score: number | null;
  readonly higher_is_better: boolean | null;
}

const columns = ["model", "step", "task", "metric", "metric_filter", "score", "higher_is_better"];

/** One task's metric: a score per step, and the final model's. */
interface Curve {
  readonly title: readonly string[];
  readonly scores: readonly (number | undefined)[];
  readonly final: number | undefined;
}

/** A table with a column per step, and a sparkline. A score that is missing is a dot. */
export function renderCurves(rows: readonly Score[]): string {
  const steps = [...new Set(rows.flatMap(({ step }) => (step === null ? [] : [step])))].sort(
    (a, b) => (a < b ? -1 : 1),
  );
  const curves = groupByTask(rows).map((group) => toCurve(group, steps));
  const table = [
    ["model", "task", "metric", "better", ...steps.map((step) => `step ${step}`), "curve", "final"],
    ...curves.map(({ title, scores, final }) => [
      ...title,
      ...scores.map(renderScore),
      renderSparkline(scores),
      renderScore(final),
    ]),
  ];
  return alignColumns(table, 4);
}

function groupByTask(rows: readonly Score[]): Score[][] {
  const groups = new Map<string, Score[]>();
  for (const row of rows) {
    const key = JSON.stringify([row.model, row.task, row.metric, row.metric_filter]);
    groups.set(key, [...(groups.get(key) ?? []), row]);
  }
  return [...groups].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, group]) => group);
}

function toCurve(group: readonly Score[], steps: readonly bigint[]): Curve {
  const {
    model,
    task,
    metric,
    metric_filter: filter,
    higher_is_better: higher,
  } = group[0] as Score;
  const scoreAt = (step: bigint | null) =>
    group.find((row) => row.step === step)?.score ?? undefined;
  const named = filter === "none" ? metric : `${metric} (${filter})`;
  return {
    title: [model, task, named, higher === null ? "" : higher ? "↑" : "↓"],
    scores: steps.map(scoreAt),
    final: scoreAt(null),
  };
}

function renderScore(score: number | undefined): string {
  if (score === undefined) return ".";
  return Math.abs(score) >= 100 ? score.toFixed(0) : score.toFixed(3);
}

/** From the lowest of the scores to the highest. */
export function renderSparkline(scores: readonly (number | undefined)[]): string {
  const bars = [..."▁▂▃▄▅▆▇█"];
  const known = scores.filter((score) => score !== undefined);
  const low = Math.min(...known);
  const range = Math.max(...known) - low;
  return scores
    .map((score) => {
      if (score === undefined) return ".";
      return bars[range === 0 ? 0 : Math.round(((score - low) / range) * (bars.length - 1))];
    })
    .join("");
}

/** Text columns to the left, numbers to the right. */
function alignColumns(table: readonly (readonly string[])[], textColumns: number): string {
  const widths = (table[0] ?? []).map((_, column) =>
    Math.max(...table.map((row) => (row[column] as string).length)),
  );
  const lines = table.map((row) =>
    row
      .map((cell, column) => {
        const width = widths[column] as number;
        return column < textColumns ? cell.padEnd(width) : cell.padStart(width);
      })
      .join("  ")
      .trimEnd(),
  );
  return `${lines.join("\n")}\n`;
}

if (import.meta.main) {
  const [path] = process.argv.slice(2);
  if (path === undefined) throw new Error("Cannot print curves: give the path of a scores.parquet");
  const file = await asyncBufferFromFile(path);
  const rows = await parquetReadObjects({ file, columns, compressors });
  process.stdout.write(`\n${renderCurves(rows as unknown as Score[])}`);
}
