import * as z from "zod";
import { largeInteger, name, tokens } from "./fields.ts";
import { ProfileBlock } from "./profile-block.ts";
import { profileVariables } from "./server-block.ts";

/** A model key becomes a directory below output_path. */
export function isInsideOutput(key: string): boolean {
  const parts = key.split("/");
  return !key.includes("\0") && !parts.some((part) => ["", ".", ".."].includes(part));
}

const tokensTrained = z.union([tokens(""), z.array(tokens("")).min(1, "must not be empty")]);

/** One entry of `models`: a model, or the checkpoints of one. */
export const ModelEntry = z.strictObject({
  path: name("Directory of the model or of its checkpoints, or a Hugging Face id."),
  display_name: z.string().describe("Name for people."),
  model_key: name("The `model` column of the results; default: the entry's key.")
    .refine(isInsideOutput, 'must stay inside output_path: no "..", no empty part')
    .nullable()
    .default(null),
  checkpoint_pattern: name(
    "Names of checkpoint directories right under path: {step} stands for digits, * for anything.",
  )
    .refine((pattern) => pattern.split("{step}").length === 2, "must hold {step} once")
    .refine((pattern) => !pattern.includes("/"), 'must be the name of one directory, without "/"')
    .nullable()
    .default(null),
  steps: z
    .array(largeInteger(0, "Training step."))
    .min(1, "must not be empty: leave it out for all steps")
    .describe("Only these checkpoints; needs checkpoint_pattern.")
    .nullable()
    .default(null),
  step_offset: largeInteger(undefined, "Added to the step in all output.").default(0),
  train_batch_size: largeInteger(0, "Tokens per training step.").nullable().default(null),
  tokens_trained: tokensTrained
    .describe('Tokens seen in training, e.g. "100B"; or a list, one for each of steps.')
    .nullable()
    .default(null),
  profile: ProfileBlock.describe("Settings that differ for this entry.").default({}),
  vars: profileVariables.default({}),
});
export type ModelEntry = z.output<typeof ModelEntry>;
