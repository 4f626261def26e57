import { renderIssue } from "../../config/issue.ts";
import type { ResolvedUnits } from "../../controller/checkpoints.ts";
import type { Validation } from "../../controller/validate-config.ts";
import { manifestObject } from "../../run/manifest.ts";
import { renderColumns } from "./quantity.ts";

/** What `validate-config --json` prints; `manifest` is that of create-run, null when there are errors. */
export function validationData({ configFile, units, errors, warnings }: Validation): object {
  return {
    schema_version: 1,
    config_file: configFile,
    valid: errors.length === 0,
    manifest: units === undefined ? null : manifestObject(units.manifest),
    paths: units === undefined ? null : Object.fromEntries(units.presence),
    not_found: units?.notFound ?? [],
    warnings,
    errors,
  };
}

/** The unit table, the warnings, a last line that says whether the config can be used. */
export function renderValidation({ configFile, units, warnings }: Validation): string {
  if (units === undefined) return "";
  const verdict = `"${configFile}" is valid: ${count(units.manifest.size, "unit")}`;
  return [
    ...renderColumns([header, ...unitRows(units)], new Set([5, 6])),
    "",
    ...warnings.flatMap((warning) => [`Warning: ${renderIssue(warning)}`, ""]),
    warnings.length === 0 ? verdict : `${verdict}, ${count(warnings.length, "warning")}`,
    "",
  ].join("\n");
}

const header = [
  "TASK KEY",
  "DISPLAY NAME",
  "CHECKPOINT",
  "PATH",
  "EXISTS",
  "BATCH SIZE",
  "TOKENS",
] as const;

const presenceWords = { present: "yes", missing: "no", unknown: "Hub?" } as const;

function unitRows({ manifest, presence }: ResolvedUnits): string[][] {
  return [...manifest].map(([id, unit]) => [
    id,
    unit.display_name,
    unit.step === null ? "-" : unit.label,
    unit.model_path,
    presenceWords[presence.get(id) ?? "unknown"],
    String(unit.train_batch_size ?? "-"),
    String(unit.tokens_trained ?? "-"),
  ]);
}

function count(n: number, noun: string): string {
  return `${n} ${noun}${n === 1 ? "" : "s"}`;
}
