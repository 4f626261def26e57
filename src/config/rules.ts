import { isRecord } from "./construct.ts";
import type { Finding, KeyPath } from "./issue.ts";
import { isInsideOutput } from "./model-block.ts";
import { parseIntegerValue } from "./quantities.ts";

type Block = Readonly<Record<string, unknown>>;

/**
 * Rules between keys of different blocks, looked at on the values as they stand in the file, so that a mistake elsewhere
 * hides none of these.
 */
export function checkRules(file: Block): Finding[] {
  const models = isRecord(file.models) ? Object.entries(file.models) : [];
  return [
    ...checkServers(file, file, []),
    ...models.flatMap(([key, entry]) => (isRecord(entry) ? checkEntry(file, key, entry) : [])),
  ];
}

function checkEntry(file: Block, key: string, entry: Block): Finding[] {
  const path = ["models", key];
  const { profile } = entry;
  const findings = isRecord(profile)
    ? checkServers({ ...file, ...profile }, profile, [...path, "profile"])
    : [];
  if (typeof entry.model_key !== "string" && !isInsideOutput(key)) {
    findings.push({
      path,
      at: "key",
      message: `"${key}" leaves output_path: no "..", no empty part`,
      hint: "Choose another key, or set model_key.",
    });
  }
  return findings;
}

/** @param settings what holds for the entry. @param written the block that may be blamed, at `path`. */
function checkServers(settings: Block, written: Block, path: KeyPath): Finding[] {
  const many = (key: string) => Number(parseIntegerValue(settings[key]) ?? 1) > 1;
  const findings: Finding[] = [];
  if (settings.inference_server_command == null) {
    for (const key of ["num_inference_servers", "servers_per_node", "units_per_job"]) {
      const to = blame(written, path, key, "inference_server_command");
      if (!many(key) || to === undefined) continue;
      findings.push({
        path: to,
        message: `"${key}" above 1 needs inference_server_command`,
        hint: "Without a server, lm_eval loads the model itself, once per job.",
      });
    }
  }
  const shared = blame(written, path, "servers_per_node", "num_nodes_per_inference_server");
  if (shared !== undefined && many("servers_per_node") && many("num_nodes_per_inference_server")) {
    findings.push({
      path: shared,
      message: '"servers_per_node" and "num_nodes_per_inference_server" can\'t both be above 1',
    });
  }
  return findings;
}

/** The first of the keys that this block sets; undefined when the mistake stands elsewhere. */
function blame(written: Block, path: KeyPath, ...keys: readonly string[]): KeyPath | undefined {
  const key = keys.find((one) => one in written);
  return key === undefined ? undefined : [...path, key];
}
