import { setTimeout as wait } from "node:timers/promises";
import type { RunLayout } from "./layout.ts";
import { type Manifest, readManifest } from "./manifest.ts";
import type { Plan } from "./plan.ts";
import { RunDirectoryError, readPlan } from "./plan-file.ts";

const attempts = 20;
const pauseMs = 100;

/**
 * Plan and manifest that belong together: each unit of the plan is in the manifest. The two are replaced one after the
 * other, so a reader that comes between looks again.
 * @throws {RunDirectoryError}
 */
export async function readRun(layout: RunLayout): Promise<{ plan: Plan; manifest: Manifest }> {
  return await readTogether(
    () => readPlan(layout),
    () => readManifest(layout),
  );
}

/** As `readRun`, for those who read either in their own way. */
export async function readTogether(
  plan: () => Promise<Plan>,
  manifest: () => Promise<Manifest>,
): Promise<{ plan: Plan; manifest: Manifest }> {
  for (let attempt = 1; ; attempt++) {
    const both = { plan: await plan(), manifest: await manifest() };
    const missing = both.plan.units.find(({ id }) => !both.manifest.has(id));
    if (missing === undefined) return both;
    if (attempt === attempts) {
      throw new RunDirectoryError(
        `Cannot read eh_manifest.json: unit "${missing.id}" of the plan is not in it`,
        {
          hint: "The file was changed by hand: create-run --update writes it anew.",
        },
      );
    }
    await wait(pauseMs);
  }
}
