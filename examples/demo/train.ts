/**
 * Trains the demo's models: five checkpoints, each from twice the text of the one before, and a final model that has read
 * more and looks further back. A directory that is there already stays.
 *
 *     node examples/demo/train.ts --output runs/demo-models
 */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { writeCheckpoint } from "./checkpoint.ts";
import { growContextTree } from "./context-tree.ts";
import { writeTrainingText } from "./corpus.ts";
import { encodeDocuments } from "./ngram-model.ts";

/** Tokens, that is bytes, of a training step: `train_batch_size` in eh_config.yaml. */
export const bytesPerStep = 80;

export interface ModelToTrain {
  readonly directory: string;
  readonly bytes: number;
  readonly order: number;
}

/** Relative directories of the models, what they read, and how many bytes of context they see. */
export const modelsToTrain: readonly ModelToTrain[] = [
  ...[100, 200, 400, 800, 1600].map((step) => ({
    directory: join("tollbridge", `step_${String(step).padStart(5, "0")}`),
    bytes: step * bytesPerStep,
    order: 10,
  })),
  { directory: "tollbridge-final", bytes: 320_000, order: 16 },
];

export async function trainModel(output: string, model: ModelToTrain): Promise<void> {
  const text = encodeDocuments(writeTrainingText(model.bytes)).slice(0, model.bytes);
  const tree = growContextTree(text, model.order);
  await writeCheckpoint(join(output, model.directory), tree, model.bytes);
}

if (import.meta.main) {
  const { values } = parseArgs({
    options: { output: { type: "string", default: "runs/demo-models" } },
  });
  for (const model of modelsToTrain) {
    if (existsSync(join(values.output, model.directory))) continue;
    const startedAt = performance.now();
    await trainModel(values.output, model);
    const took = Math.round(performance.now() - startedAt);
    process.stderr.write(`demo: ${model.directory}: ${model.bytes} bytes of text in ${took} ms\n`);
  }
}
