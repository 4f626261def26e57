import * as z from "zod";
import { evaluationFields } from "./eval-block.ts";
import { serverFields } from "./server-block.ts";
import { slurmFields } from "./slurm-block.ts";

/** A field as a profile has it: it may be left out, and has no default of its own. */
type Override<T extends z.ZodType> = z.ZodOptional<T extends z.ZodDefault<infer Inner> ? Inner : T>;

function overrides<Shape extends Readonly<Record<string, z.ZodType>>>(
  shape: Shape,
): { [Key in keyof Shape]: Override<Shape[Key]> } {
  return Object.fromEntries(
    Object.entries(shape).map(([key, field]) => {
      const inner = field instanceof z.ZodDefault ? (field.unwrap() as z.ZodType) : field;
      return [key, inner.optional()];
    }),
  ) as { [Key in keyof Shape]: Override<Shape[Key]> };
}

/** What a model entry may set differently from the rest of the config: maps are merged, all else is replaced. */
export const ProfileBlock = z.strictObject({
  ...overrides(slurmFields),
  ...overrides(serverFields),
  eval: z.strictObject(overrides(evaluationFields)).optional(),
});
export type ProfileBlock = z.output<typeof ProfileBlock>;
