import assert from "node:assert/strict";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, test } from "node:test";
import { configText } from "../support/config-text.ts";
import { evalHive } from "../support/eval-hive.ts";
import { temporaryDirectory } from "../support/temporary.ts";

const model = [
  "train_batch_size: 9007199254740993",
  'checkpoint_pattern: "step_{step}"',
  "steps: [3, 20, 40]",
].join("\n");
const config = configText({
  model,
  models: [
    'final: {path: org/final, display_name: "模型 é", model_key: tiny, tokens_trained: 2B}',
    "gone: {path: ./gone, display_name: Gone, tokens_trained: 1}",
  ].join("\n"),
}).replace("org/tiny", "ckpts");

/** A directory with a config and two of its three checkpoints, and the command in it. */
async function openPlace(text: string) {
  const place = await temporaryDirectory();
  for (const step of [3, 20]) {
    await mkdir(join(place.path, `ckpts/step_${step}`), { recursive: true });
  }
  await writeFile(join(place.path, "c.yaml"), text);
  return {
    path: place.path,
    validate: async (...args: string[]) =>
      await evalHive(["validate-config", ...args], { cwd: place.path, env: process.env }),
    [Symbol.asyncDispose]: async () => await place[Symbol.asyncDispose](),
  };
}

describe("validate-config of a good config", () => {
  test("prints the units, the warnings with their places, and ends with 0", async () => {
    await using place = await openPlace(config);
    const { code, stdout, stderr } = await place.validate("c.yaml");
    assert.deepEqual([code, stderr], [0, ""]);
    assert.equal(
      stdout,
      `TASK KEY       DISPLAY NAME  CHECKPOINT  PATH           EXISTS        BATCH SIZE              TOKENS
tiny--step_3   Tiny          step_3      ckpts/step_3   yes     9007199254740993   27021597764222979
tiny--step_20  Tiny          step_20     ckpts/step_20  yes     9007199254740993  180143985094819860
tiny--main     模型 é        -           org/final      Hub?                   -          2000000000
gone--main     Gone          -           ./gone         no                     -                   1

Warning: c.yaml:10:12: not found yet in "ckpts": steps 40
   9 |     checkpoint_pattern: "step_{step}"
  10 |     steps: [3, 20, 40]
     |            ^^^^^^^^^^^
  They are evaluated after create-run --update, once they are there.

Warning: c.yaml:12:16: model path "./gone" does not exist
  11 |   final: {path: org/final, display_name: "模型 é", model_key: tiny, tokens_trained: 2B}
  12 |   gone: {path: ./gone, display_name: Gone, tokens_trained: 1}
     |                ^^^^^^
  Correct it; if it will be there when the job runs, plan with create-run --allow-missing-paths.

"c.yaml" is valid: 4 units, 2 warnings`,
    );
  });

  test("gives programs the manifest, what is not there, and the warnings", async () => {
    await using place = await openPlace(config);
    const { code, stdout } = await place.validate("c.yaml", "--json");
    assert.equal(code, 0);
    assert.match(stdout, /"tokens_trained": 180143985094819860$/m, "exact beyond 2^53");
    const { manifest, warnings, ...rest } = JSON.parse(stdout);
    assert.deepEqual(Object.keys(manifest), [
      "tiny--step_3",
      "tiny--step_20",
      "tiny--main",
      "gone--main",
    ]);
    assert.deepEqual(manifest["tiny--main"], {
      model_key: "tiny",
      label: "main",
      step: null,
      model_path: "org/final",
      display_name: "模型 é",
      train_batch_size: null,
      tokens_trained: 2_000_000_000,
    });
    assert.deepEqual(rest, {
      schema_version: 1,
      config_file: "c.yaml",
      valid: true,
      paths: {
        "tiny--step_3": "present",
        "tiny--step_20": "present",
        "tiny--main": "unknown",
        "gone--main": "missing",
      },
      not_found: [{ model: "tiny", path: "ckpts", steps: [40] }],
      errors: [],
    });
    assert.deepEqual(
      warnings.map(({ line, path }: { line: number; path: string }) => [line, path]),
      [
        [10, "models.tiny.steps"],
        [12, "models.gone.path"],
      ],
    );
  });

  for (const [what, path, why] of [
    ["is not there", "./tasks", 'task folder "./tasks" does not exist'],
    ["is a file", "c.yaml", 'task folder "c.yaml" is no directory'],
  ] as const) {
    test(`a folder of tasks that ${what}: a warning here, an error of create-run before lm_eval starts`, async () => {
      await using place = await openPlace(
        configText({ eval: `eval_suite_path: ${path}`, model: "tokens_trained: 1" }),
      );
      const { code, stdout } = await place.validate("c.yaml");
      assert.equal(code, 0);
      assert.match(stdout, /1 warning$/);
      assert.ok(stdout.includes(`\nWarning: c.yaml:4:20: ${why}\n`), stdout);
      const plan = ["create-run", "-c", "c.yaml", "-o", "run", "--python", "/gone/python3"];
      const refused = await evalHive(plan, { cwd: place.path, env: process.env });
      assert.deepEqual([refused.code, refused.stdout], [2, ""]);
      assert.ok(refused.stderr.includes(`1 mistake\n\nc.yaml:4:20: ${why}\n`), refused.stderr);
    });
  }

  test("with --strict refuses steps that are not there", async () => {
    await using place = await openPlace(config);
    const { code, stdout, stderr } = await place.validate("c.yaml", "--strict");
    assert.deepEqual([code, stdout], [2, ""]);
    assert.match(stderr, /1 mistake\n\nc\.yaml:10:12: not found yet in "ckpts": steps 40\n/);
  });
});

describe("validate-config of a bad config", () => {
  const bad = config.replace("steps: [3, 20, 40]", "stepps: [3]").replace("timeout", "time");

  test("says on stderr what is wrong, where and how to mend it, and ends with 2", async () => {
    await using place = await openPlace(bad);
    const { code, stdout, stderr } = await place.validate("c.yaml");
    assert.deepEqual([code, stdout], [2, ""]);
    assert.equal(
      stderr,
      `eval-hive: Cannot use config "c.yaml": 1 mistake

c.yaml:10:5: unknown key "stepps"
   9 |     checkpoint_pattern: "step_{step}"
  10 |     stepps: [3]
     |     ^^^^^^
  Did you mean "steps"?`,
    );
  });

  test("names the file as it was called", async () => {
    await using place = await openPlace(bad);
    const absolute = join(place.path, "c.yaml");
    assert.match((await place.validate("./c.yaml")).stderr, /^\.\/c\.yaml:10:5: /m);
    assert.ok((await place.validate(absolute)).stderr.includes(`\n${absolute}:10:5: `));
  });

  test("gives programs each mistake with its place, path and right spelling", async () => {
    await using place = await openPlace(bad);
    const { code, stdout, stderr } = await place.validate("c.yaml", "--json");
    assert.deepEqual([code, stderr], [2, ""]);
    assert.deepEqual(JSON.parse(stdout), {
      schema_version: 1,
      config_file: "c.yaml",
      valid: false,
      manifest: null,
      paths: null,
      not_found: [],
      warnings: [],
      errors: [
        {
          file: "c.yaml",
          line: 10,
          column: 5,
          path: "models.tiny.stepps",
          message: 'unknown key "stepps"',
          hint: 'Did you mean "steps"?',
          suggestion: "steps",
          frame:
            '   9 |     checkpoint_pattern: "step_{step}"\n  10 |     stepps: [3]\n     |     ^^^^^^',
        },
      ],
    });
  });

  test("tells what is wrong on disk in the same way, of all entries at once", async () => {
    await using place = await openPlace(config.replace("step_{step}", "epoch_{step}"));
    const { code, stderr } = await place.validate("c.yaml");
    assert.equal(code, 2);
    assert.match(stderr, /c\.yaml:9:25: no directory in "ckpts" matches "epoch_\{step\}"/);
    assert.match(stderr, /It holds step_20, step_3\./);
  });
});

describe("validate-config of what is no config", () => {
  test("says so in one or two lines, and ends with 2", async () => {
    await using place = await openPlace(config);
    await mkdir(join(place.path, "run"));
    await writeFile(join(place.path, "run/eh_config.yaml"), config);
    await writeFile(join(place.path, "latin1.yaml"), Buffer.from("job_name: caf\xe9", "latin1"));
    for (const [file, said] of [
      ["nowhere.yaml", 'eval-hive: Cannot read config "nowhere.yaml": there is no such file'],
      [
        "run",
        'eval-hive: Cannot read config "run": it is a directory\n  Did you mean "run/eh_config.yaml"?',
      ],
      [
        "latin1.yaml",
        'eval-hive: Cannot read config "latin1.yaml": it is not UTF-8 text\n  Convert it, e.g. iconv -f latin1 -t utf-8 latin1.yaml',
      ],
    ] as const) {
      const { code, stdout, stderr } = await place.validate(file);
      assert.deepEqual([code, stdout, stderr], [2, "", said]);
    }
    const { code, stdout } = await place.validate("nowhere.yaml", "--json");
    assert.equal(code, 2);
    assert.equal(JSON.parse(stdout).error.code, "config.unreadable");
  });
});
