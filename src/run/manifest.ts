import { z } from "zod";
import type { UnitId } from "./ids.ts";

const integer = z.union([z.int(), z.bigint()]);

/** A unit as eh_manifest.json has it: the original's fields, in its order. */
export const ManifestEntry = z.strictObject({
  model_key: z.string(),
  /** `main`, or the checkpoint's directory name. */
  label: z.string(),
  /** Training step plus the entry's offset. */
  step: integer.nullable(),
  model_path: z.string(),
  display_name: z.string(),
  /** Tokens per training step. */
  train_batch_size: integer.nullable(),
  tokens_trained: integer.nullable(),
});
export type ManifestEntry = z.output<typeof ManifestEntry>;

/** Unit id → entry, in config order. */
export type Manifest = ReadonlyMap<UnitId, ManifestEntry>;
