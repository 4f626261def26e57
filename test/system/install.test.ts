/**
 * A fresh clone of what is committed, in an empty home directory and under a path with blanks. The quick form links
 * node_modules and .venv from here; with EVAL_HIVE_LONG=1 another clone installs them itself.
 */
import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { chmod, mkdir, readFile, stat, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { type Completed, runToEnd } from "../../src/base/spawn.ts";
import type { Call } from "../support/eval-hive.ts";
import { runReadOnly } from "../support/read-only.ts";
import { isLong, requirePython, root, skip } from "../support/require.ts";
import { readScores } from "../support/scores.ts";
import { temporaryDirectory } from "../support/temporary.ts";

/** Clones HEAD. @returns undefined after the test was skipped: this is no checkout. */
async function cloneTo(
  t: Parameters<typeof skip>[0],
  directory: string,
): Promise<string | undefined> {
  if (!existsSync(join(root, ".git"))) return skip(t, "this is no git checkout");
  const env = {
    PATH: process.env["PATH"],
    // CI may have cloned it as somebody else.
    GIT_CONFIG_COUNT: "1",
    GIT_CONFIG_KEY_0: "safe.directory",
    GIT_CONFIG_VALUE_0: "*",
  };
  const clone = join(directory, "eval hive");
  const { code, stderr } = await runToEnd("git", ["clone", "--quiet", root, clone], { env });
  assert.equal(code, 0, stderr);
  return clone;
}

/** Gives a clone what npm ci and pip would install. */
async function linkInstalled(clone: string): Promise<void> {
  const pairs = [
    ["package-lock.json", "node_modules/.eval-hive-lock"],
    ["scripts/requirements.txt", ".venv/.eval-hive-requirements"],
  ] as const;
  for (const [wanted, installed] of pairs) {
    // Otherwise the clone's scripts would install through the link.
    const [a, b] = [join(clone, wanted), join(root, installed)].map((path) => readFileSync(path));
    assert.deepEqual(a, b, `${installed} is not that of ${wanted}: npm test installs it`);
  }
  for (const name of ["node_modules", ".venv"]) await symlink(join(root, name), join(clone, name));
}

/** The environment of a login that has nothing: as after `env -i`, with an empty home, and without npm. */
async function bareCall(directory: string): Promise<Call> {
  const home = join(directory, "home");
  const bin = join(directory, "bin");
  await mkdir(home);
  await mkdir(bin);
  await writeFile(join(bin, "npm"), "#!/bin/sh\necho 'nothing may be installed' >&2\nexit 1\n");
  await chmod(join(bin, "npm"), 0o755);
  return { cwd: directory, env: { PATH: `${bin}:/usr/local/bin:/usr/bin:/bin`, HOME: home } };
}

async function sh(command: string, { cwd, env }: Call): Promise<Completed> {
  return await runToEnd("sh", ["-c", command], { cwd, env });
}

/** The commands of README's sh blocks, in order, without their comments. */
async function readmeCommands(clone: string): Promise<string[]> {
  const text = await readFile(join(clone, "README.md"), "utf8");
  const blocks = [...text.matchAll(/^```sh\n([\s\S]*?)^```/gm)].map(([, block]) => block ?? "");
  return blocks
    .flatMap((block) => block.split("\n"))
    .map((line) => line.replace(/\s+#.*/, "").trim())
    .filter((line) => line !== "");
}

/** Commands that stand in the README's text: run here, without npm, or by another test. */
const namedCommands: Readonly<
  Record<
    string,
    { readonly kind: "here" | "long"; readonly as: string } | { readonly kind: "elsewhere" }
  >
> = {
  "npm run build": { kind: "here", as: "sh scripts/build.sh" },
  "npm run bench": { kind: "here", as: "sh scripts/bench.sh" },
  "npm run chaos -- --seed 7 --faults 100": {
    kind: "long",
    as: "sh scripts/chaos.sh --seed 7 --faults 2",
  },
  // The benches themselves take minutes; test/bench runs the frame that they share.
  "npm run bench -- NAME": { kind: "elsewhere" },
  // By the first subtest, and by whoever runs this.
  "npm run demo": { kind: "elsewhere" },
  "npm test": { kind: "elsewhere" },
  "npm test -- PART": { kind: "elsewhere" },
  "npm run test:long": { kind: "elsewhere" },
  // test/hf, which is this command alone.
  "npm run test:hf": { kind: "elsewhere" },
  // test/gate.test.ts
  "npm run check": { kind: "elsewhere" },
  // test/system/run.test.ts, test/cli/events.test.ts, test/cli/balancer.test.ts
  "bin/eval-hive run eh_config.yaml": { kind: "elsewhere" },
  "eval-hive events": { kind: "elsewhere" },
  "eval-hive balancer --listen 127.0.0.1:8000 --backend http://n1:9000 http://n2:9000": {
    kind: "elsewhere",
  },
};

/** The demo's final model and one of its tasks, by paths that hold anywhere. */
function oneLeafConfig(clone: string, output: string): string {
  const demo = join(clone, "examples/demo");
  return JSON.stringify({
    models: {
      final: {
        path: join(clone, "runs/demo-models/tollbridge-final"),
        display_name: "Final",
        tokens_trained: "320K",
      },
    },
    inference_server_command: `exec sh "${demo}/serve.sh" --model "\${EH_MODEL_PATH}" --port "\${EH_PORT}"`,
    offline: "always",
    eval: {
      eval_suite_path: join(demo, "tasks"),
      suites_and_tasks: ["demo_last_word"],
      model_args: {
        model: "${EH_MODEL_PATH}",
        base_url: "http://127.0.0.1:${EH_PORT}/v1/completions",
      },
      lm_eval_args: { model: "local-completions" },
    },
    output_path: output,
  });
}

test("a fresh clone in an empty home", async (t) => {
  const python = requirePython(t);
  if (python === undefined) return;
  await using directory = await temporaryDirectory("eval hive ");
  const clone = await cloneTo(t, directory.path);
  if (clone === undefined) return;
  await linkInstalled(clone);
  const call = await bareCall(directory.path);

  await t.test("demonstrates itself: curves, scores, and what to try next", async () => {
    const demo = await sh("sh scripts/demo.sh", { ...call, cwd: clone });
    assert.equal(demo.code, 0, demo.stderr);
    assert.match(demo.stdout, /^tollbridge +demo_agreement +acc +↑ .* [▁▂▃▄▅▆▇█]{5} /mu);
    assert.match(demo.stdout, /^78 rows from 48 of 48 leaves; 6 of 6 units complete$/m);
    const rows = await readScores(join(clone, "runs/demo/scores.parquet"));
    const bits = rows.filter(({ metric }) => metric === "bits_per_byte");
    const [final, ...series] = bits.map(({ score }) => score as number);
    assert.equal(series.length, 5);
    assert.deepEqual(
      series,
      [...series].sort((a, b) => b - a),
    );
    assert(final !== undefined && final < (series.at(-1) as number));
    const next = [...demo.stdout.matchAll(/^ {2}(bin\/eval-hive .*?)(?: +#.*)?$/gm)];
    assert.equal(next.length, 3);
    for (const [, command] of next) {
      const { code, stderr } = await sh(command as string, { ...call, cwd: clone });
      assert.equal(code, 0, `${command}: ${stderr}`);
    }
  });

  await t.test("every command of the README's quickstart does what it says", async () => {
    const commands = await readmeCommands(clone);
    const npm = commands.filter((command) => command.startsWith("npm "));
    assert.deepEqual(npm, ["npm run demo", "npm test", "npm ci"]);
    for (const command of commands.filter((command) => !npm.includes(command))) {
      const { code, stdout, stderr } = await sh(command, { ...call, cwd: clone });
      assert.equal(code, 0, `${command}: ${stderr}`);
      if (command.startsWith("bin/eval-hive ")) assert.notEqual(stdout, "", command);
    }
    assert.equal((await readScores(join(clone, "runs/my-run/scores.parquet"))).length, 78);
  });

  await t.test("every other command that the README names is run somewhere", async () => {
    const text = await readFile(join(clone, "README.md"), "utf8");
    const named = [...text.matchAll(/`((?:npm|(?:bin\/)?eval-hive) [^`]*)`/g)].map(([, command]) =>
      (command as string).replace(/\s+/g, " "),
    );
    assert.deepEqual([...new Set(named)].sort(), Object.keys(namedCommands).sort());
    for (const [command, how] of Object.entries(namedCommands)) {
      if (how.kind === "here" || (how.kind === "long" && isLong)) {
        const { code, stderr } = await sh(how.as, { ...call, cwd: clone });
        assert.equal(code, 0, `${command}: ${stderr}`);
      }
    }
  });

  await t.test("works where it can't be written, through a link and from elsewhere", async () => {
    const elsewhere = join(directory.path, "else where");
    await mkdir(elsewhere);
    const link = join(elsewhere, "eh");
    await symlink(join(clone, "bin/eval-hive"), link);
    const config = join(elsewhere, "one leaf.yaml");
    await writeFile(config, oneLeafConfig(clone, join(elsewhere, "results")));
    const bare = ["env", "-i", `HOME=${call.env["HOME"]}`, link];
    const inside = { ...call, cwd: elsewhere };
    const version = await runReadOnly(clone, [...bare, "--version"], inside);
    assert.deepEqual([version.code, version.stderr], [0, ""]);
    const run = await runReadOnly(clone, [...bare, "run", config], inside);
    assert.equal(run.code, 0, run.stderr);
    assert.equal(run.stdout, "1 of 1 leaf done\nnext: eval-hive collect 'runs/one leaf'");
    const collect = await runReadOnly(clone, [...bare, "collect", "runs/one leaf"], inside);
    assert.equal(collect.code, 0, collect.stderr);
    assert.equal((await readScores(join(elsewhere, "runs/one leaf/scores.parquet"))).length, 2);
  });
});

test("a fresh clone without anything tells how to get a Node", async (t) => {
  await using directory = await temporaryDirectory("eval hive ");
  const clone = await cloneTo(t, directory.path);
  if (clone === undefined) return;
  const { code, stdout, stderr } = await sh("bin/eval-hive --version", {
    cwd: clone,
    env: { PATH: "/usr/bin:/bin", HOME: directory.path },
  });
  assert.deepEqual([code, stdout], [3, ""]);
  assert.match(stderr, /no Node 24 beside .*eval hive; run 'npm ci' there/);
});

test("a fresh clone says in one line what can't be installed", async (t) => {
  await using directory = await temporaryDirectory("eval hive ");
  const clone = await cloneTo(t, directory.path);
  if (clone === undefined) return;
  const call = await bareCall(directory.path);
  /** Lines of ours: npm and pip have their own. */
  const told = async (command: string) => {
    const { code, stderr } = await sh(command, { ...call, cwd: clone });
    const lines = stderr.split("\n").filter((line) => /^eval-hive: cannot /.test(line));
    return { code, lines };
  };
  for (const command of ["sh scripts/demo.sh", "sh scripts/test.sh"]) {
    assert.deepEqual(await told(command), {
      code: 3,
      lines: ["eval-hive: cannot install the Node packages: npm ci failed (see above)"],
    });
  }
  await symlink(join(root, "node_modules"), join(clone, "node_modules"));
  for (const name of ["", ".10", ".11", ".12", ".13"]) {
    const python = join(directory.path, `bin/python3${name}`);
    await writeFile(python, "#!/bin/sh\nexit 1\n");
    await chmod(python, 0o755);
  }
  assert.deepEqual(await told("sh scripts/demo.sh"), {
    code: 3,
    lines: ["eval-hive: cannot install lm_eval: no Python 3.10 to 3.13 with venv on PATH"],
  });
});

if (isLong) {
  test("npm ci and pip bring a fresh clone all that it needs, and a second call installs nothing", async (t) => {
    await using directory = await temporaryDirectory("eval hive ");
    const clone = await cloneTo(t, directory.path);
    if (clone === undefined) return;
    const home = join(directory.path, "home");
    await mkdir(home);
    // Where packages come from, and whom to trust, is the machine's business.
    const kept = Object.entries(process.env).filter(([name]) => !/^(EVAL_HIVE|NODE_)/.test(name));
    const trust = process.env["NODE_EXTRA_CA_CERTS"];
    const env = {
      npm_config_userconfig: join(process.env["HOME"] ?? "", ".npmrc"),
      ...Object.fromEntries(kept),
      ...(trust !== undefined && { NODE_EXTRA_CA_CERTS: trust }),
      HOME: home,
    };
    const call = { cwd: clone, env };
    const installed = await sh("npm ci", call);
    assert.equal(installed.code, 0, installed.stderr);
    const version = await sh("env -i bin/eval-hive --version", call);
    assert.deepEqual([version.code, version.stderr], [0, ""]);
    const demo = await sh("npm run demo", call);
    assert.equal(demo.code, 0, demo.stderr);
    assert.match(demo.stderr, /installing the Node packages|installing lm/);
    const before = (await stat(join(clone, ".venv/.eval-hive-requirements"))).mtimeMs;
    const again = await sh("npm run demo", call);
    assert.equal(again.code, 0, again.stderr);
    assert.doesNotMatch(again.stderr, /installing/);
    assert.equal((await stat(join(clone, ".venv/.eval-hive-requirements"))).mtimeMs, before);
  });
}
