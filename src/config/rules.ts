import { isRecord } from "./construct.ts";
import type { Finding, KeyPath } from "./issue.ts";
import { isInsideOutput } from "./model-block.ts";
import { parseIntegerValue } from "./quantities.ts";
import { sbatchOption } from "./slurm-block.ts";

type Block = Readonly<Record<string, unknown>>;

/**
 * Rules between keys, looked at on the values as they stand in the file, so that a mistake elsewhere hides none of these.
 */
export function checkRules(file: Block): Finding[] {
  const models = isRecord(file.models) ? Object.entries(file.models) : [];
  return [
    ...checkPixi(file),
    ...checkQueue(file.queue),
    ...checkSbatchOptions(file, []),
    ...checkServers(file, file, []),
    ...models.flatMap(([key, entry]) => (isRecord(entry) ? checkEntry(file, key, entry) : [])),
  ];
}

function checkPixi(file: Block): Finding[] {
  const pairs = [
    ["pixi_env", "pixi_manifest"],
    ["pixi_manifest", "pixi_env"],
  ] as const;
  return pairs
    .filter(([given, other]) => file[given] != null && file[other] == null)
    .map(([given, other]) => ({
      path: [given],
      at: "key",
      message: `"${given}" needs ${other}`,
      hint: `Add "${other}: ...", or leave both out.`,
      needs: [other],
    }));
}

function checkQueue(queue: unknown): Finding[] {
  if (!isRecord(queue) || queue.kind !== "nats" || queue.url != null) return [];
  return [
    {
      path: ["queue", "kind"],
      message: '"kind: nats" needs url',
      hint: 'Add "url: nats://HOST:4222".',
      needs: ["queue", "url"],
    },
  ];
}

/** `mem` and `--mem` are one option. */
function checkSbatchOptions({ additional_sbatch_args: options }: Block, path: KeyPath): Finding[] {
  if (!isRecord(options)) return [];
  const seen = new Set<string>();
  return Object.keys(options).flatMap((key): Finding[] => {
    const option = sbatchOption(key);
    if (!seen.has(option)) {
      seen.add(option);
      return [];
    }
    return [
      {
        path: [...path, "additional_sbatch_args", key],
        at: "key",
        message: `"${key}" is given twice, with and without dashes`,
        hint: "Keep one of the two.",
      },
    ];
  });
}

function checkEntry(file: Block, key: string, entry: Block): Finding[] {
  const path = ["models", key];
  const findings = checkCheckpoints(entry, path);
  if (isRecord(entry.profile)) {
    const profile = [...path, "profile"];
    findings.push(
      ...checkServers({ ...file, ...entry.profile }, entry.profile, profile),
      ...checkSbatchOptions(entry.profile, profile),
    );
  }
  if (entry.model_key == null && key !== "" && !isInsideOutput(key)) {
    findings.push({
      path,
      at: "key",
      message: `"${key}" leaves output_path: no "..", no empty part`,
      hint: "Choose another key, or set model_key.",
    });
  }
  return findings;
}

function checkCheckpoints(entry: Block, path: KeyPath): Finding[] {
  const { steps, tokens_trained: tokens } = entry;
  const findings: Finding[] = [];
  if (steps != null && entry.checkpoint_pattern == null) {
    findings.push({
      path: [...path, "steps"],
      at: "key",
      message: '"steps" needs checkpoint_pattern',
      hint: 'Say how the checkpoints\' directories are called, e.g. checkpoint_pattern: "step_{step}".',
      needs: [...path, "checkpoint_pattern"],
    });
  }
  if (Array.isArray(tokens) && !Array.isArray(steps)) {
    findings.push({
      path: [...path, "tokens_trained"],
      at: "key",
      message: 'a list in "tokens_trained" needs steps',
      hint: "Name the steps in the same order, or give train_batch_size instead.",
      needs: [...path, "steps"],
    });
  } else if (Array.isArray(tokens) && Array.isArray(steps) && tokens.length !== steps.length) {
    findings.push({
      path: [...path, "tokens_trained"],
      at: "key",
      message: `"tokens_trained" has ${tokens.length} items, "steps" has ${steps.length}`,
      hint: "Give one number of tokens for each step, or train_batch_size instead.",
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
        needs: [...path, "inference_server_command"],
      });
    }
  }
  const shared = blame(written, path, "servers_per_node", "num_nodes_per_inference_server");
  if (shared !== undefined && many("servers_per_node") && many("num_nodes_per_inference_server")) {
    findings.push({
      path: shared,
      message: '"servers_per_node" and "num_nodes_per_inference_server" can\'t both be above 1',
      hint: "A server either shares a node with others or has nodes of its own.",
    });
  }
  return findings;
}

/** The first of the keys that this block sets; undefined when the mistake stands elsewhere. */
function blame(written: Block, path: KeyPath, ...keys: readonly string[]): KeyPath | undefined {
  const key = keys.find((one) => one in written);
  return key === undefined ? undefined : [...path, key];
}
