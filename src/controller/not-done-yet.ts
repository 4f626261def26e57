import { UsageError } from "../base/errors.ts";
import type { LoadedConfig } from "../config/load.ts";
import { resolveProfile } from "../config/profile.ts";

/**
 * What a valid config asks for and this version does not do: said when the run is planned, not left to be found out. Pure.
 * @throws {UsageError} for what would make the run another one than was asked for.
 */
export function warnOfNotDoneYet({
  config,
  source,
}: Pick<LoadedConfig, "config" | "source">): string[] {
  if (config.queue.kind === "nats") {
    throw new UsageError("config.queue", "Cannot plan this run: queue.kind nats is not there yet", {
      hint: "Use kind: filesystem, which needs no server, or leave queue out.",
    });
  }
  const warnings = Object.keys(config.models).flatMap((entry) => {
    const settings = resolveProfile(config, entry);
    return servingKeys
      .filter((key) => settings[key] > 1)
      .map(
        (key) =>
          `${key} is ${settings[key]}: this version serves one unit at a time, with all servers on one node`,
      );
  });
  if (config.request_cache_dir !== null) {
    warnings.push("request_cache_dir is not used: prompts are built where they are asked");
  }
  if (config.hf_result_repo !== null) {
    warnings.push("hf_result_repo is not read: leaves that are on the Hub are evaluated again");
  }
  if (config.prepare_tokenizer !== null) {
    warnings.push("prepare_tokenizer is not used: there is no command prepare yet");
  }
  // Asked for by default too: that alone is not worth a word in every plan.
  const asked = new Set(source.keys([]));
  if (asked.has("legacy") && config.legacy !== "ignore") {
    warnings.push(
      "legacy is not used: results of other tools do not count, their leaves are evaluated",
    );
  }
  return [...new Set(warnings)];
}

const servingKeys = [
  "num_nodes_per_inference_server",
  "servers_per_node",
  "units_per_job",
] as const;
