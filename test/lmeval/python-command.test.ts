import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { test } from "node:test";
import { UsageError } from "../../src/base/errors.ts";
import {
  decidePythonCommand,
  findPixiManifest,
  type PythonChoice,
} from "../../src/lmeval/python-command.ts";

const nothing: PythonChoice = {
  explicit: undefined,
  harnessCommand: null,
  pixiManifest: null,
  pixiEnv: null,
  activationCommand: null,
  configDirectory: "/configs",
  cwd: "/project",
  checkout: "/opt/eval-hive",
};
const everything: PythonChoice = {
  ...nothing,
  explicit: "/usr/bin/python3.12",
  harnessCommand: ["singularity", "exec", "-B", "/data", "lm.sif", "python3"],
  pixiManifest: "/p/pixi.toml",
  pixiEnv: "eval",
  activationCommand: "source env.sh",
};
const all = () => true;
const only =
  (...paths: string[]) =>
  (path: string) =>
    paths.includes(path);

test("an explicit Python comes before all else", () => {
  assert.deepEqual(decidePythonCommand(everything, all), ["/usr/bin/python3.12"]);
});

test("harness_command is run as it is", () => {
  const choice = { ...everything, explicit: undefined };
  assert.deepEqual(decidePythonCommand(choice, all), everything.harnessCommand);
});

test("pixi comes before the activation command, with its environment", () => {
  const choice = { ...everything, explicit: undefined, harnessCommand: null };
  const argv = [
    "pixi",
    "run",
    "--manifest-path",
    "/p/pixi.toml",
    "--environment",
    "eval",
    "python3",
  ];
  assert.deepEqual(decidePythonCommand(choice, all), argv);
  assert.deepEqual(decidePythonCommand({ ...choice, pixiEnv: null }, all), [
    ...argv.slice(0, 4),
    "python3",
  ]);
});

test("the activation command is followed by python3 with all its arguments, and a failing one by nothing", () => {
  const run = (activationCommand: string) => {
    const [bash, ...args] = decidePythonCommand({ ...nothing, activationCommand }, all);
    return execFileSync(
      bash,
      [...args, "-c", "import os, sys; print(os.environ['A'], sys.argv[1:])", "b c"],
      {
        encoding: "utf8",
        stdio: ["ignore", "pipe", "ignore"],
      },
    );
  };
  assert.equal(run("export A=1"), "1 ['b c']\n");
  assert.equal(run("export A=2 # ours"), "2 ['b c']\n");
  assert.equal(run("export A=0\nexport A=3"), "3 ['b c']\n");
  assert.throws(() => run("export A=1; false"));
});

test("without a word from anybody the checkout's .venv is taken, and python3 where there is none", () => {
  const own = "/opt/eval-hive/.venv/bin/python";
  assert.deepEqual(decidePythonCommand(nothing, only(own)), [own]);
  assert.deepEqual(
    decidePythonCommand(nothing, () => false),
    ["python3"],
  );
});

test("empty text is no word", () => {
  const empty = { ...nothing, explicit: "", pixiManifest: "", activationCommand: "" };
  assert.deepEqual(
    decidePythonCommand(empty, () => false),
    ["python3"],
  );
});

test("a relative pixi manifest is looked for beside the config, in the working directory, then in the checkout", () => {
  const places = ["/configs/pixi.toml", "/project/pixi.toml", "/opt/eval-hive/pixi.toml"];
  for (const [index, place] of places.entries()) {
    assert.equal(findPixiManifest("pixi.toml", nothing, only(...places.slice(index))), place);
  }
  assert.throws(
    () => findPixiManifest("pixi.toml", nothing, () => false),
    (error) =>
      error instanceof UsageError && places.every((place) => error.message.includes(place)),
  );
});

test("an absolute pixi manifest is taken from there alone", () => {
  assert.throws(() => findPixiManifest("/gone/pixi.toml", nothing, only("/configs/pixi.toml")), {
    code: "config.pixi-manifest",
  });
});
