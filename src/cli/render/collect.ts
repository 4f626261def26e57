import { notFoundProblems } from "../../controller/advice.ts";
import type { ChangedValue, Changes } from "../../results/changes.ts";
import type { CollectReport } from "../../results/collect.ts";
import type { UnitReport } from "../../results/collect-unit.ts";
import { renderProblem } from "./status.ts";

function isUnitComplete(unit: UnitReport): boolean {
  return unit.complete === unit.planned;
}

/** True when every planned leaf has its rows in the table. */
export function isComplete(report: CollectReport): boolean {
  return report.units.every(isUnitComplete);
}

function countLeaves(units: readonly UnitReport[]) {
  const sum = (count: (unit: UnitReport) => number) =>
    units.reduce((total, unit) => total + count(unit), 0);
  return {
    planned: sum((unit) => unit.planned),
    complete: sum((unit) => unit.complete),
    missing: sum((unit) => unit.missing.length),
    invalid: sum((unit) => unit.invalid.length),
    unreadable: sum((unit) => unit.unreadable.length),
  };
}

/** What `collect --json` prints. `changes` is null when there was no file before. */
export function collectData(report: CollectReport): object {
  const { changes, units } = report;
  return {
    schema_version: 1,
    output: report.output,
    run_id: report.run_id,
    complete: isComplete(report),
    rows: report.rows,
    units: { planned: units.length, complete: units.filter(isUnitComplete).length },
    leaves: countLeaves(units),
    incomplete: units.filter((unit) => !isUnitComplete(unit)),
    changes:
      changes === undefined ? null : { ...changes, by_model: Object.fromEntries(changes.by_model) },
    not_found: report.not_found,
    warnings: report.warnings,
  };
}

/** What a person reads. */
export function renderCollect(report: CollectReport): string {
  return [
    ...report.warnings.map((warning) => `Warning: ${warning}`),
    ...renderProblems(report.units),
    ...some(notFoundProblems(report.not_found).flatMap(renderProblem), (line) => line, "model"),
    ...renderChanges(report.changes),
    renderTotals(report),
    isComplete(report)
      ? `Scores: ${report.output}`
      : `Scores so far: ${report.output} (not complete: eval-hive status shows why)`,
    "",
  ].join("\n");
}

function plural(n: number, noun: string): string {
  return `${n} ${n === 1 ? noun : noun === "leaf" ? "leaves" : `${noun}s`}`;
}

function renderTotals({ rows, units }: CollectReport): string {
  const leaves = countLeaves(units);
  const others = (["missing", "invalid", "unreadable"] as const)
    .filter((kind) => leaves[kind] > 0)
    .map((kind) => `, ${leaves[kind]} ${kind}`);
  const nComplete = units.filter(isUnitComplete).length;
  return `${plural(rows, "row")} from ${leaves.complete} of ${plural(leaves.planned, "leaf")}${others.join("")}; ${nComplete} of ${plural(units.length, "unit")} complete`;
}

/** Units and files that are named one by one. */
const maxNamed = 10;

function renderProblems(units: readonly UnitReport[]): string[] {
  const files = units.flatMap(({ unreadable }) => unreadable);
  const open = units.filter((unit) => !isUnitComplete(unit));
  return [
    ...some(files, ({ path, reason }) => `Cannot use "${path}": ${reason}`, "file"),
    ...some(open, renderUnit, "unit"),
  ];
}

function renderUnit({ unit, planned, complete, missing, invalid }: UnitReport): string {
  const parts = [nameLeaves("missing", missing), nameLeaves("invalid", invalid)].filter(
    (part) => part !== "",
  );
  return `  ${unit}: ${complete} of ${planned}${parts.map((part) => `; ${part}`).join("")}`;
}

function nameLeaves(kind: string, leaves: readonly string[]): string {
  if (leaves.length === 0) return "";
  const rest = leaves.length > 3 ? ` and ${leaves.length - 3} more` : "";
  return `${kind} ${leaves.slice(0, 3).join(", ")}${rest}`;
}

function some<T>(items: readonly T[], render: (item: T) => string, noun: string): string[] {
  const rest = items.length - maxNamed;
  return [
    ...items.slice(0, maxNamed).map(render),
    ...(rest > 0 ? [`  … and ${plural(rest, noun)} more`] : []),
  ];
}

function renderChanges(changes: Changes | undefined): string[] {
  if (changes === undefined) return [];
  const { added, removed, replaced, changed } = changes;
  if (added + removed + replaced + changed === 0) return ["Nothing changed against the old file"];
  return [
    `Against the old file: ${added} added, ${removed} removed, ${replaced} replaced, ${changed} changed values`,
    ...some(changes.values, renderChangedValue, "value"),
  ];
}

function renderChangedValue(value: ChangedValue): string {
  const step = value.step === null ? "" : ` step ${value.step}`;
  const filter = value.metric_filter === "none" ? "" : ` (${value.metric_filter})`;
  return `  ${value.model}${step} ${value.task} ${value.metric}${filter}: ${value.old_score} → ${value.new_score}`;
}
