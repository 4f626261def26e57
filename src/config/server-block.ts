import * as z from "zod";
import { integer, keyName, type NameProblem, name } from "./fields.ts";

const environmentVariables = z.record(
  keyName((key) => problemOf(key, "an environment variable")),
  z.string(),
);

function problemOf(key: string, what: string): NameProblem | undefined {
  if (/^[A-Za-z_][A-Za-z0-9_]*$/.test(key)) return undefined;
  return {
    message: `is no name for ${what}`,
    hint: "Letters, digits and underscores, and no digit at the start.",
  };
}

/** `\` and the whitespace after it, which folded YAML leaves of a continued line, is one blank. */
const serverCommand = z
  .string()
  .min(1, "must not be empty: write null for no server")
  .overwrite((command) => command.replace(/\\\s+/g, " "))
  .describe(
    "Command of one inference server, run by `bash -c`; ${EH_PORT} and ${EH_MODEL_PATH} are filled in. null: lm_eval loads the model itself.",
  );

/** How a unit is served and evaluated in its job. */
export const serverFields = {
  inference_server_command: serverCommand.nullable().default(null),
  num_inference_servers: integer(1, "Servers per job; more than 1 needs a server command.").default(
    1,
  ),
  num_nodes_per_inference_server: integer(
    1,
    "Nodes per server; nodes per job are the product of the two.",
  ).default(1),
  servers_per_node: integer(
    1,
    "Servers that share a node, each with a slice of its devices. Not there yet: 1.",
  ).default(1),
  units_per_job: integer(
    1,
    "Units that the servers of one job serve side by side. Not there yet: 1.",
  ).default(1),
  parallel_tasks: integer(1, "Batches evaluated at a time in a job.").default(1),
  env_vars: environmentVariables
    .describe(
      "Environment variables of server and lm_eval, expanded by bash as in a here-document: quotes are text, except inside $(…). Servers also see ${EH_SERVER_ID}.",
    )
    .nullable()
    .default(null),
  health_check_max_wait_minutes: integer(
    1,
    "Minutes until a started server must be healthy.",
  ).default(10),
  health_check_interval_seconds: integer(
    1,
    "Seconds between health checks of a running server. One that answers none for a minute is restarted.",
  ).default(20),
  server_start_max_attempts: integer(1, "Starts of a server before it is given up.").default(3),
  journal: z
    .boolean()
    .describe(
      "Keep the answered requests of tasks in progress, so that an evaluation that is cut off does not ask them again. Needs a server command.",
    )
    .default(true),
  journal_dir: name(
    "Folder for them, expanded by bash on the node, e.g. ${TMPDIR}; null: the run directory, where other nodes find them.",
  )
    .nullable()
    .default(null),
  journal_max_gib: integer(
    1,
    "GiB that they may take per model, and a quarter of it per task; beyond that no more is kept.",
  ).default(8),
};

/** `vars` of a model entry: what fills `${NAME}` in its settings. */
export const profileVariables = z
  .record(
    keyName((key) =>
      key.startsWith("EH_")
        ? { message: "is set in the job", hint: "Choose a name that does not start with EH_." }
        : problemOf(key, "a variable"),
    ),
    z
      .unknown()
      .transform((value, context): string => {
        if (["string", "bigint", "number"].includes(typeof value)) return String(value);
        context.addIssue({ code: "custom", message: "must be text or a number" });
        return z.NEVER;
      })
      .meta({ type: ["string", "number"] }),
  )
  .describe('Values for "${NAME}" in the settings of this entry, e.g. {TP: 4}.');
