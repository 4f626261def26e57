/**
 * CPU of validate-config for 500 checkpoints: as directories of one series, and as 500 entries of their own. Beside it, what
 * the command costs for one checkpoint.
 */
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { temporaryDirectory } from "../test/support/temporary.ts";
import { interleave } from "./support/repeats.ts";
import { keepResult } from "./support/result.ts";
import { timeCommand } from "./support/timed-command.ts";

const checkpoints = 500;
const repeats = 11;
const launcher = join(import.meta.dirname, "../bin/eval-hive");

const head = "output_path: results\neval: {suites_and_tasks: [arc_easy]}\nmodels:\n";

function series(path: string): string {
  return `  run: {path: ${path}, display_name: Run, checkpoint_pattern: "step_{step}", train_batch_size: 4_194_304}\n`;
}

function entries(path: string): string {
  return Array.from(
    { length: checkpoints },
    (_, n) => `  run-${n}:
    path: ${path}/step_${(n + 1) * 1_000}
    display_name: Run ${n}
    tokens_trained: ${n + 1}B
`,
  ).join("");
}

await using place = await temporaryDirectory("eval-hive-bench-");
const directory = join(place.path, "run");
for (let n = 1; n <= checkpoints; n++) {
  await mkdir(join(directory, `step_${n * 1_000}`), { recursive: true });
}
await mkdir(join(place.path, "single/step_1"), { recursive: true });

async function measured(name: string, models: string): Promise<() => Promise<number>> {
  const file = join(place.path, `${name}.yaml`);
  await writeFile(file, head + models);
  return async () => {
    const { cpu_s } = await timeCommand(launcher, ["validate-config", file], { cwd: place.path });
    return cpu_s;
  };
}

const cpu = await interleave(
  {
    series: await measured("series", series(directory)),
    entries: await measured("entries", entries(directory)),
    one: await measured("one", series(join(place.path, "single"))),
  },
  { repeats },
);
await keepResult("validate-config", {
  checkpoints,
  series_cpu_s: cpu.series,
  entries_cpu_s: cpu.entries,
  one_checkpoint_cpu_s: cpu.one,
  bar_cpu_s: 0.5,
});
