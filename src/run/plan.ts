import * as z from "zod";
import { sha256 } from "../base/hash.ts";
import { HarnessVersions } from "../lmeval/protocol.ts";
import { Leaf, SuiteNode } from "../lmeval/task-tree.ts";
import type { Fingerprint, LeafId, UnitId } from "./ids.ts";

const unitIdText = z.string() as unknown as z.ZodType<UnitId>;
const leafIdText = z.string() as unknown as z.ZodType<LeafId>;
const fingerprintText = z.string() as unknown as z.ZodType<Fingerprint>;

/** Exact beyond 2^53 too. */
const integer = z.union([z.int(), z.bigint()]);

/** What a job needs to know to evaluate one kind of unit: the config's values, after per-model overrides. */
export const Profile = z.strictObject({
  /** null: serverless, lm_eval loads the model itself. */
  server_command: z.string().nullable(),
  num_servers: z.int().positive(),
  slots: z.int().positive(),
  env_vars: z.record(z.string(), z.string()),
  health_check_max_wait_s: z.number().positive(),
  health_check_interval_s: z.number().positive(),
  server_start_max_attempts: z.int().positive(),
  model_args: z.record(z.string(), z.unknown()),
  lm_eval_args: z.record(z.string(), z.unknown()),
  /** Of one attempt of one request. */
  request_timeout_s: z.number().positive(),
  request_retries: z.int().positive(),
  /** Of a leaf's loading, and of its scoring. */
  phase_timeout_s: z.number().positive().default(7_200),
  request_cache_dir: z.string().nullable(),
  /** Answered requests are kept; null: they are not. No part of a fingerprint. */
  journal: z
    .strictObject({
      /** Expanded on the node; null: in the run directory. */
      directory: z.string().nullable(),
      /** Of all journals of a unit. */
      limit_bytes: z.int().nonnegative(),
    })
    .nullable()
    .default(null),
  /** How the harness sends: as RunRequest says. No part of a fingerprint. */
  engine: z.enum(["fast", "plain"]).default("fast"),
  offline: z.enum(["auto", "always", "never"]),
  /** The harness's inputs of the fingerprint that belong to the evaluation arguments. */
  inputs: z.record(z.string(), z.unknown()),
  /** The leaves of every unit with this profile. */
  fingerprints: z.record(leafIdText, fingerprintText),
});
export type Profile = z.output<typeof Profile>;

/**
 * What results say of the command that served their model: no part of the fingerprint, since how a model is served should
 * not change its scores. A hash, because the command may hold what is not for everyone. null: serverless.
 */
export function serverCommandHash({
  server_command,
}: Pick<Profile, "server_command">): string | null {
  return server_command === null ? null : sha256(server_command);
}

export const PlannedUnit = z.strictObject({
  id: unitIdText,
  profile: z.string(),
  /** Generations of this unit's shards that hold work, ascending; empty when nothing was left to do. */
  generations: z.array(z.int().nonnegative()),
  /** Leaves that had a valid result before the first generation was published. */
  n_covered: z.int().nonnegative(),
});
export type PlannedUnit = z.output<typeof PlannedUnit>;

/**
 * eh_plan.json: everything that was decided when the run was created. Replaced whole by `--update`. Plans that lie on disks
 * keep being read: what is added within a schema version has a default, which says what eval-hive did before.
 */
export const Plan = z.strictObject({
  schema_version: z.literal(1),
  /** Random, for the life of the run directory. */
  run_id: z.string(),
  eval_hive_version: z.string(),
  /** ISO 8601, UTC. */
  created_at: z.string(),
  updated_at: z.string(),
  /** Of the queue; a plan with another epoch than the queue's highest is being replaced. */
  epoch: z.int().positive(),
  config_file: z.string(),
  config_sha256: z.string(),
  /** First part of the names of jobs and logs. May be empty. */
  job_name: z.string(),
  /** Absolute: where create-run was called; the harness's children run there. */
  working_directory: z.string(),
  /** Absolute. */
  output_path: z.string(),
  eval_suite_path: z.string().nullable(),
  harness: z.strictObject({
    /** Command prefix that runs Python with lm_eval, e.g. `["/x/.venv/bin/python"]`. */
    argv: z.array(z.string()).nonempty(),
    versions: HarnessVersions,
    /** Absolute: the content-addressed folder that holds harness/ and the agent. */
    store: z.string(),
  }),
  /** `task_batch_size: null`: one slot, leaf after leaf as the config names them. */
  in_config_order: z.boolean(),
  profiles: z.record(z.string(), Profile),
  suites: z.array(SuiteNode),
  /** By leaf id. */
  leaves: z.record(leafIdText, Leaf),
  units: z.array(PlannedUnit),
  /** Checkpoints that the config names and that were not there yet. */
  not_found: z.array(
    z.strictObject({ model: z.string(), path: z.string(), steps: z.array(integer) }),
  ),
  /** Ids of leaves that the config leaves out (`eval.exclude_tasks`): neither in `suites` nor in `leaves`. */
  excluded: z.array(z.string()),
  warnings: z.array(z.string()),
});
export type Plan = z.output<typeof Plan>;
