import * as z from "zod";
import { integer, keyName, type NameProblem, name, oneLine } from "./fields.ts";
import { parseTimeLimit, timeLimitForms } from "./time-limit.ts";

/** sbatch options that eval-hive sets itself, and the key to use instead (undefined: none). */
const reservedOptions: Readonly<Record<string, string | undefined>> = {
  "job-name": "job_name",
  partition: "partition",
  account: "account",
  qos: "qos",
  nodes: "num_inference_servers and num_nodes_per_inference_server",
  "cpus-per-task": "cpus_per_node",
  gres: "gres_per_node",
  time: "time_limit",
  signal: "drain_signal_s",
  requeue: "requeue",
  "no-requeue": "requeue",
  ...Object.fromEntries(
    [
      ..."gpus gpus-per-node gpus-per-socket gpus-per-task gpu-bind gpu-freq cpus-per-gpu".split(
        " ",
      ),
      "tres-per-task",
    ].map((option) => [option, "gres_per_node"]),
  ),
  ...Object.fromEntries(
    [
      ..."array output error dependency wait cores-per-socket sockets-per-node threads-per-core ntasks".split(
        " ",
      ),
      ..."ntasks-per-node ntasks-per-core ntasks-per-socket ntasks-per-gpu hint extra-node-info tres-bind".split(
        " ",
      ),
    ].map((option) => [option, undefined]),
  ),
};

/** An option of `additional_sbatch_args` without the dashes that may lead it. */
export function sbatchOption(key: string): string {
  return key.replace(/^--/, "");
}

const sbatchArguments = z
  .record(
    keyName((key) => problemOf(sbatchOption(key))).overwrite(sbatchOption),
    oneLine("Value; empty for options that take none."),
  )
  .describe("More options for sbatch, with or without the leading dashes.");

function problemOf(option: string): NameProblem | undefined {
  if (Object.hasOwn(reservedOptions, option)) {
    const better = reservedOptions[option];
    const hint = better === undefined ? "Leave it out." : `Use ${better}.`;
    return { message: "is set by eval-hive", hint };
  }
  if (!/^[a-zA-Z][a-zA-Z0-9-]+$/.test(option)) {
    return { message: "is no sbatch option", hint: "Long names only, e.g. mem or --mem." };
  }
  return undefined;
}

const timeLimit = z
  .string()
  .refine((text) => parseTimeLimit(text) !== undefined, `must be a time limit: ${timeLimitForms}`)
  .describe(`Slurm time limit, in quotes: ${timeLimitForms}. Needed by submit.`);

/** What a job asks of Slurm. Without defaults: profiles may override each key. */
export const slurmFields = {
  partition: oneLine("Slurm partition; empty: the cluster's default. Needed by submit.")
    .nullable()
    .default(null),
  account: oneLine("Slurm account; empty: yours. Needed by submit.").nullable().default(null),
  qos: oneLine("Slurm quality of service; empty: the default. Needed by submit.")
    .nullable()
    .default(null),
  cpus_per_node: integer(1, "CPUs per node (--cpus-per-task). Needed by submit.")
    .nullable()
    .default(null),
  gres_per_node: oneLine('Devices per node (--gres), e.g. "gpu:4". Needed by submit.')
    .nullable()
    .default(null),
  time_limit: timeLimit.nullable().default(null),
  additional_sbatch_args: sbatchArguments.nullable().default(null),
  drain_signal_s: integer(
    1,
    "Seconds before the time limit at which a job takes no more work.",
  ).default(300),
  max_resubmissions: integer(
    0,
    "How often a unit's job is submitted again after a time limit, preemption or node failure.",
  ).default(20),
  requeue: z.boolean().describe("Let Slurm requeue jobs itself (--requeue).").default(false),
  on_preempt: z
    .enum(["resubmit", "stop"])
    .describe("What becomes of the work of a preempted job: a new job, or none until you submit.")
    .default("resubmit"),
  node_address: z
    .string()
    .regex(/^[^\s]*\{node\}[^\s]*$/, 'must hold "{node}", e.g. "{node}i"')
    .describe('Host name by which nodes reach each other; "{node}" is the name Slurm uses.')
    .default("{node}"),
};

/** The keys that `submit` can't do without and a local `run` never reads. */
export const submitKeys = [
  "partition",
  "account",
  "qos",
  "cpus_per_node",
  "gres_per_node",
  "time_limit",
] as const;

export const jobName = oneLine("First part of Slurm job names and log file names.").default(
  "eval-hive",
);

export const environmentFields = {
  pixi_manifest: name("pixi.toml of the environment that has lm_eval; needs pixi_env.")
    .nullable()
    .default(null),
  pixi_env: name("Environment of that manifest.").nullable().default(null),
  env_activation_command: name(
    'Shell command that activates the environment, e.g. "source /x/venv/bin/activate".',
  )
    .nullable()
    .default(null),
};
