import { type LoadedConfig, parseConfig } from "../../src/config/load.ts";

/** YAML lines to add to each block of a config; without a common indent. */
export interface ConfigLines {
  readonly top?: string;
  readonly eval?: string;
  /** Of the entry `tiny`. */
  readonly model?: string;
  /** More entries. */
  readonly models?: string;
}

/** The least that a config must say, and more lines. */
export function configText(lines: ConfigLines = {}): string {
  return [
    "output_path: results",
    lines.top ?? "",
    "eval:",
    "  suites_and_tasks: [arc_easy]",
    indent(lines.eval, 2),
    "models:",
    "  tiny:",
    "    path: org/tiny",
    "    display_name: Tiny",
    indent(lines.model, 4),
    indent(lines.models, 2),
  ]
    .filter((line) => line !== "")
    .map((line) => `${line}\n`)
    .join("");
}

export function loadText(lines: ConfigLines = {}): LoadedConfig {
  return parseConfig("c.yaml", configText(lines));
}

function indent(text: string | undefined, by: number): string {
  return (text ?? "").replace(/^(?=.)/gm, " ".repeat(by));
}
