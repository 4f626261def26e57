import assert from "node:assert/strict";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, test } from "node:test";
import { ConfigError } from "../../src/config/issue.ts";
import { parseConfig } from "../../src/config/load.ts";
import {
  type ResolvedUnits,
  type ResolveOptions,
  resolveUnits,
} from "../../src/controller/checkpoints.ts";
import { temporaryDirectory } from "../support/temporary.ts";

/** The units of these entries of `models`, with these directories on disk. */
async function resolve(
  directories: readonly string[],
  models: string,
  options: Omit<ResolveOptions, "baseDirectory"> = {},
): Promise<ResolvedUnits> {
  await using place = await temporaryDirectory();
  for (const name of directories) await mkdir(join(place.path, name), { recursive: true });
  const text = `output_path: o\neval: {suites_and_tasks: [t]}\nmodels:\n${models.replace(/^/gm, "  ")}\n`;
  return await resolveUnits(parseConfig("c.yaml", text), {
    baseDirectory: place.path,
    ...options,
  });
}

async function mistakes(...args: Parameters<typeof resolve>): Promise<string[]> {
  try {
    await resolve(...args);
    return [];
  } catch (error) {
    assert.ok(error instanceof ConfigError, String(error));
    return error.issues.map(({ line, message }) => `${line}: ${message}`);
  }
}

const series = (more = "") =>
  `run: {path: ckpts, display_name: Run, checkpoint_pattern: "step_{step}"${more}}`;
const steps = (...numbers: (number | string)[]) => numbers.map((step) => `ckpts/step_${step}`);

describe("the units of a config", () => {
  test("are one for a model, and one for each checkpoint of a series, as the manifest has them", async () => {
    const { manifest, entryOf } = await resolve(
      steps(20, 3),
      `final: {path: org/final, display_name: Final, model_key: "org/run", tokens_trained: 2B}\n${series(", model_key: org/run, step_offset: 1000, train_batch_size: 4")}`,
    );
    assert.deepEqual(
      [...manifest],
      [
        [
          "org-run--main",
          {
            model_key: "org/run",
            label: "main",
            step: null,
            model_path: "org/final",
            display_name: "Final",
            train_batch_size: null,
            tokens_trained: 2_000_000_000,
          },
        ],
        [
          "org-run--step_3",
          {
            model_key: "org/run",
            label: "step_3",
            step: 1003,
            model_path: "ckpts/step_3",
            display_name: "Run",
            train_batch_size: 4,
            tokens_trained: 12,
          },
        ],
        [
          "org-run--step_20",
          {
            model_key: "org/run",
            label: "step_20",
            step: 1020,
            model_path: "ckpts/step_20",
            display_name: "Run",
            train_batch_size: 4,
            tokens_trained: 80,
          },
        ],
      ],
    );
    assert.deepEqual([...entryOf.values()], ["final", "run", "run"]);
  });

  test("come in the order of the file, also for keys that look like numbers", async () => {
    const entry = (key: string) => `"${key}": {path: org/m, display_name: M}`;
    const { manifest } = await resolve([], ["b", "10", "a", "9"].map(entry).join("\n"));
    assert.deepEqual([...manifest.keys()], ["b--main", "10--main", "a--main", "9--main"]);
  });

  test("are called after model key and label, each other character a dash", async () => {
    const { manifest } = await resolve(
      ["c/step 1.5é😀"],
      'a/b.c_d-é: {path: c, display_name: D, checkpoint_pattern: "step {step}*"}',
    );
    assert.deepEqual([...manifest.keys()], ["a-b-c_d----step-1-5--"]);
    assert.equal([...manifest.values()][0]?.label, "step 1.5é😀");
  });

  test("keep the path of a model as it is written", async () => {
    const { manifest } = await resolve(["m"], "a: {path: .//m/, display_name: A}");
    assert.equal(manifest.get("a--main" as never)?.model_path, ".//m/");
  });

  test("are two for two spellings of one step", async () => {
    const { manifest } = await resolve(steps("100", "0100"), series(", steps: [100]"));
    assert.deepEqual([...manifest.keys()], ["run--step_0100", "run--step_100"]);
  });

  test("of one name are a mistake, which tells both entries", async () => {
    assert.deepEqual(
      await mistakes(
        [],
        "a: {path: org/a, display_name: A}\nb: {path: org/b, display_name: B, model_key: a}",
      ),
      ['5: "b" makes the unit "a--main" of "org/b", which "a" makes of "org/a"'],
    );
    assert.deepEqual(
      await mistakes(steps("1"), `${series()}\n${series().replace("run", "r.n")}`),
      [],
    );
    const dots = '"r.n": {path: org/a, display_name: A}\nr-n: {path: org/b, display_name: B}';
    assert.equal((await mistakes([], dots)).length, 1);
  });
});

describe("tokens of a checkpoint", () => {
  const tokensOf = async (more: string, ...on: number[]) =>
    [...(await resolve(steps(...on), series(more))).manifest.values()].map(
      ({ tokens_trained }) => tokens_trained,
    );

  test("are the entry's number for all, before any calculation", async () => {
    assert.deepEqual(
      await tokensOf(", tokens_trained: 1K, train_batch_size: 4", 1, 2),
      [1000, 1000],
    );
  });

  test("are those of the list at the first place of the step", async () => {
    const more = ", steps: [20, 3, 20], tokens_trained: [20K, 3K, 7K], step_offset: 5";
    assert.deepEqual(await tokensOf(more, 3, 20), [3000, 20_000]);
  });

  test("are batch size times step without the offset, exact beyond 2^53", async () => {
    const more = ", train_batch_size: 9007199254740993, step_offset: 7";
    assert.deepEqual(await tokensOf(more, 3), [27_021_597_764_222_979n]);
  });

  test("are unknown without either", async () => {
    assert.deepEqual(await tokensOf("", 3), [null]);
  });
});

describe("checkpoints that are not there", () => {
  test("are a loud warning that lists them, and stay in the plan", async () => {
    const { manifest, notFound, warnings } = await resolve(
      steps(1, 3),
      series(", steps: [3, 9, 1, 8, 9]"),
    );
    assert.deepEqual([...manifest.keys()], ["run--step_1", "run--step_3"]);
    assert.deepEqual(notFound, [{ model: "run", path: "ckpts", steps: [9, 8] }]);
    assert.deepEqual(
      warnings.map(({ path, message }) => [path, message]),
      [["models.run.steps", 'not found yet in "ckpts": steps 9, 8']],
    );
  });

  test("are an error with strict", async () => {
    const more = ", steps: [1, 2]";
    assert.deepEqual(await mistakes(steps(1), series(more), { strict: true }), [
      '4: not found yet in "ckpts": steps 2',
    ]);
    assert.deepEqual(await mistakes(steps(1, 2), series(more), { strict: true }), []);
  });

  test("are an error when there are none at all", async () => {
    assert.deepEqual(await mistakes(["ckpts/other"], series()), [
      '4: no directory in "ckpts" matches "step_{step}"',
    ]);
    assert.deepEqual(await mistakes(["ckpts"], series()), [
      '4: no directory in "ckpts" matches "step_{step}"',
    ]);
    assert.deepEqual(await mistakes(steps(1), series(", steps: [7]")), [
      '4: "ckpts" holds none of these steps',
    ]);
    assert.deepEqual(await mistakes([], series()), [
      '4: checkpoint directory "ckpts" does not exist',
    ]);
  });

  test("because their directory is none are told so", async () => {
    await using place = await temporaryDirectory();
    const file = join(place.path, "ckpts");
    await writeFile(file, "");
    assert.deepEqual(await mistakes([], series().replace("ckpts", file)), [
      `4: checkpoint directory "${file}" is no directory`,
    ]);
  });

  test("of several entries are told at once", async () => {
    const all = await mistakes(
      ["empty"],
      [
        'a: {path: empty, display_name: A, checkpoint_pattern: "{step}"}',
        "b: {path: /nowhere, display_name: B}",
        'c: {path: ./gone, display_name: C, checkpoint_pattern: "{step}"}',
      ].join("\n"),
    );
    assert.deepEqual(all, [
      '4: no directory in "empty" matches "{step}"',
      '5: model path "/nowhere" does not exist',
      '6: checkpoint directory "./gone" does not exist',
    ]);
  });
});

describe("a model path that is not there", () => {
  const models = "a: {path: ./gone, display_name: A}\nb: {path: org/b, display_name: B}";

  test("is an error where it can't be anything else than local", async () => {
    assert.deepEqual(await mistakes([], models), ['4: model path "./gone" does not exist']);
  });

  test("is a warning where missing paths are allowed", async () => {
    const { presence, warnings, manifest } = await resolve([], models, { allowMissingPaths: true });
    assert.deepEqual([...presence.values()], ["missing", "unknown"]);
    assert.equal(manifest.size, 2);
    assert.deepEqual(
      warnings.map(({ message }) => message),
      ['model path "./gone" does not exist'],
    );
  });

  test("with ~ or a variable is told that nothing is expanded", async () => {
    const { warnings } = await resolve([], 'a: {path: "$SCRATCH/m/x", display_name: A}');
    assert.match(warnings[0]?.hint ?? "", /not expanded/);
  });
});
