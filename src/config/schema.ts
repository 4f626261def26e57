import * as z from "zod";
import { parseCommandWords } from "./command-words.ts";
import { EvalBlock } from "./eval-block.ts";
import { integer, name } from "./fields.ts";
import { ModelEntry } from "./model-block.ts";
import { serverFields } from "./server-block.ts";
import { environmentFields, jobName, slurmFields } from "./slurm-block.ts";

const QueueBlock = z.strictObject({
  kind: z
    .enum(["filesystem", "nats", "auto"])
    .describe(
      "Where work waits: the run directory, or a NATS server. Not there yet: nats; auto is filesystem.",
    )
    .default("filesystem"),
  url: name("Not there yet. Of the NATS server, e.g. nats://login1:4222.").nullable().default(null),
});

const harnessCommand = z
  .union([z.string(), z.array(z.string())])
  .transform((command, context): string[] => {
    const words = typeof command === "string" ? parseCommandWords(command) : command;
    if (words !== undefined && words.length > 0 && words[0] !== "") return words;
    context.addIssue({
      code: "custom",
      message: words === undefined ? "has an open quote" : "must not be empty",
    });
    return z.NEVER;
  })
  .describe(
    'Command prefix that runs Python with lm_eval, e.g. "singularity exec lm.sif python3"; default: the environment\'s python.',
  );

const offline = z
  .union([z.enum(["auto", "always", "never"]), z.boolean()])
  .transform((mode) => (typeof mode === "boolean" ? (mode ? "always" : "never") : mode))
  .describe("Keep the Hugging Face libraries off the network; auto: in Slurm jobs only.");

/** The YAML file, as it is after defaults. Keys are spelled as in YAML; how they go together is in rules.ts. */
export const Config = z.strictObject({
  job_name: jobName,
  ...slurmFields,
  ...environmentFields,
  ...serverFields,
  task_batch_size: integer(
    1,
    "null: suites one after another, leaf by leaf. Any number: batches side by side, longest first, as small as 256 per model allow.",
  )
    .nullable()
    .default(8),
  eval: EvalBlock.describe("What is evaluated, and how lm_eval is called."),
  output_path: name("Folder of the results."),
  request_cache_dir: name("Not there yet. Folder of lm_eval's request cache; null: no cache.")
    .nullable()
    .default(null),
  prepare_tokenizer: name("Not there yet. Tokenizer that prepare uses; null: the model's.")
    .nullable()
    .default(null),
  hf_result_repo: name(
    "Not there yet. Data set repository on the Hugging Face Hub that keeps scores.parquet.",
  )
    .nullable()
    .default(null),
  harness_command: harnessCommand.nullable().default(null),
  harness_engine: z
    .enum(["fast", "plain"])
    .describe("fast: requests are prepared in batches; plain: by lm_eval's own code.")
    .default("fast"),
  offline: offline.default("auto"),
  legacy: z
    .enum(["check", "trust", "ignore"])
    .describe(
      "Not there yet: ignore. Results of other tools: count if nothing contradicts the plan, by name, or not.",
    )
    .default("check"),
  queue: QueueBlock.describe("How work is handed out.").default({
    kind: "filesystem",
    url: null,
  }),
  models: z
    .record(
      z.string().min(1, "must not be empty"),
      ModelEntry.describe("A model, or the checkpoints of one: path, display_name and more."),
    )
    .refine((models) => Object.keys(models).length > 0, "must not be empty")
    .describe("What is evaluated: models and series of checkpoints."),
});
export type Config = z.output<typeof Config>;
