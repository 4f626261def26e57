import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { cp, mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { runToEnd } from "../../src/base/spawn.ts";
import { openFsQueue } from "../../src/queue/fs-queue.ts";
import { shardId } from "../../src/run/ids.ts";
import { leafDirectory, leafFileName, type RunLayout } from "../../src/run/layout.ts";
import { RunDirectoryError, readPlan } from "../../src/run/plan-file.ts";
import { readRun } from "../../src/run/read-run.ts";
import { type Call, callIn, evalHive, startEvalHive } from "../support/eval-hive.ts";
import { processesOfRun } from "../support/processes.ts";
import { indexCache } from "../support/python-calls.ts";
import { isLong, requirePython, root } from "../support/require.ts";
import {
  awaitHeld,
  makeSmallPlace,
  readEventsOf,
  type SmallPlace,
  type SmallRunOptions,
} from "../support/small-run.ts";
import { temporaryDirectory } from "../support/temporary.ts";
import { until } from "../support/until.ts";

/** Every file below a directory with its content; directories end in a slash. */
async function contentOf(directory: string): Promise<Record<string, string>> {
  const content: Record<string, string> = {};
  const entries = await readdir(directory, { recursive: true, withFileTypes: true });
  for (const entry of entries) {
    const path = join(entry.parentPath, entry.name);
    const name = path.slice(directory.length + 1);
    if (entry.isDirectory()) content[`${name}/`] = "";
    else content[name] = await readFile(path, "latin1");
  }
  return content;
}

/** All but the user's cache and home. */
async function contentOfPlace(place: SmallPlace): Promise<Record<string, string>> {
  const content = Object.entries(await contentOf(place.root));
  return Object.fromEntries(content.filter(([name]) => !/^home\//.test(name)));
}

/** How often each unit's leaves are in batches of the plan that are not done, by `unit leaf`. */
async function publishedLeaves(layout: RunLayout): Promise<Record<string, number>> {
  const { plan } = await readRun(layout);
  await using queue = await openFsQueue({ layout, epoch: plan.epoch });
  const counts: Record<string, number> = {};
  for (const { id, generations } of plan.units) {
    for (const generation of generations) {
      for (const { leaves } of await queue.batches(shardId(id, generation))) {
        for (const leaf of leaves) counts[`${id} ${leaf}`] = (counts[`${id} ${leaf}`] ?? 0) + 1;
      }
    }
  }
  return counts;
}

function once(units: readonly string[], leaves: readonly string[]): Record<string, number> {
  return Object.fromEntries(units.flatMap((unit) => leaves.map((leaf) => [`${unit} ${leaf}`, 1])));
}

const leftOver = { "left_over.yaml": "group: left_over\ntask: [small_00, ev_mc]\n" };

describe("create-run refuses by name, before anything is written:", () => {
  const cases: readonly {
    readonly what: string;
    readonly options?: Partial<SmallRunOptions>;
    readonly config?: (place: SmallPlace) => Record<string, unknown>;
    readonly args?: readonly string[];
    readonly prepare?: (place: SmallPlace) => Promise<void>;
    readonly expected: readonly RegExp[];
  }[] = [
    {
      what: "tasks that nobody knows, prompts without room and code without consent, all at once",
      options: {
        suites: ["smal_01", "ev_generate", "ev_unsafe"],
        // All that lm_eval has is looked through for the nearest name.
        env: { XDG_CACHE_HOME: indexCache },
      },
      config: () => ({ eval: { model_args: { max_length: 24 } } }),
      expected: [
        /Unknown task "smal_01".*\n.*"small_01"/,
        /max_gen_toks leaves no room for the prompt in max_length 24: ev_generate/,
        /run code that the model writes: ev_unsafe\n.*confirm_run_unsafe_code/,
      ],
    },
    {
      what: "log-likelihoods on a chat endpoint",
      config: () => ({ eval: { lm_eval_args: { model: "local-chat-completions" } } }),
      expected: [/"local-chat-completions" gives no log-likelihoods.*small_00, small_01/],
    },
    {
      what: "a series without a checkpoint",
      config: ({ root: path }) => ({
        models: {
          series: { path, display_name: "Series", checkpoint_pattern: "step_{step}" },
        },
      }),
      expected: [/no directory in ".*" matches "step_\{step\}"/],
    },
    {
      what: "a path that is not there",
      config: () => ({ models: { gone: { path: "./gone", display_name: "Gone" } } }),
      expected: [/"\.\/gone"|\/gone"/],
    },
    {
      what: "a group among what is left out",
      options: { suites: ["left_over"], taskFiles: leftOver },
      config: () => ({ eval: { exclude_tasks: ["left_over"] } }),
      expected: [/names "left_over", which is a group: .*\n.*name its leaves: small_00, ev_mc$/m],
    },
    {
      what: "a plan of which nothing is left",
      config: () => ({ eval: { exclude_tasks: ["small_00", "small_01"] } }),
      expected: [/exclude_tasks names every leaf .*: nothing is left to evaluate/],
    },
    {
      what: "a directory that holds something else",
      prepare: async ({ layout }) => {
        await mkdir(layout.directory, { recursive: true });
        await writeFile(join(layout.directory, "thesis.tex"), "");
      },
      expected: [/it holds "thesis\.tex" and no eh_plan\.json/],
    },
  ];
  for (const { what, options, config, prepare, expected } of cases) {
    test(what, async (t) => {
      const python = requirePython(t);
      if (python === undefined) return;
      await using place = await makeSmallPlace({ leaves: 2, ...options });
      if (config !== undefined) await place.writeConfig({ config: config(place) });
      await prepare?.(place);
      const before = await contentOfPlace(place);
      const args = ["create-run", "-c", place.configFile, "-o", place.layout.directory];
      const { code, stdout, stderr } = await evalHive(args, callIn(place, python));
      assert.deepEqual([code, stdout], [2, ""], stderr);
      for (const pattern of expected) assert.match(stderr, pattern);
      assert.deepEqual(await contentOfPlace(place), before);
    });
  }
});

describe("create-run", { concurrency: 2 }, () => {
  /** Of the recording harness: what real lm_eval has planned once. */
  let memory: Awaited<ReturnType<typeof temporaryDirectory>>;
  before(async () => {
    memory = await temporaryDirectory();
  });
  after(async () => {
    await memory[Symbol.asyncDispose]();
  });

  /** A place whose config plans with recorded answers, and its call. */
  async function recorded(python: string, options: Omit<SmallRunOptions, "python"> = {}) {
    const recorder = join(root, "test/support/recording-harness.ts");
    const command = [process.execPath, recorder, memory.path, python];
    const place = await makeSmallPlace({
      ...options,
      // The same for all places, so that what they plan is the same.
      config: { ...options.config, harness_command: command },
    });
    return {
      place,
      call: callIn(place, ""),
      [Symbol.asyncDispose]: () => place[Symbol.asyncDispose](),
    };
  }

  const create = (place: SmallPlace, ...more: string[]): string[] => [
    ...["create-run", "-c", place.configFile, "-o", place.layout.directory],
    ...more,
  ];

  test("writes manifest and task map as the original does", async (t) => {
    const python = requirePython(t);
    if (python === undefined) return;
    const named = ["x_rc", "x_mc", "b", "x_cot", "a_gen", "x_code", "x_gen"];
    const files = named.map((name) => [`${name}.yaml`, `include: _mc_base\ntask: ${name}\n`]);
    files.push(["x_inner.yaml", "group: x_inner\ntask: [x_mc]\n"]);
    files.push(["x_suite.yaml", `group: x_suite\ntask: [${named.join(", ")}, x_inner]\n`]);
    await using place = await makeSmallPlace({
      suites: ["ev_mc", "x_suite"],
      taskFiles: Object.fromEntries(files),
    });
    for (const label of ["step_0100", "step_20", "other"]) {
      await mkdir(join(place.root, "series", label), { recursive: true });
    }
    const series = join(place.root, "series");
    await place.writeConfig({
      config: {
        models: {
          alpha: {
            path: series,
            display_name: "Größe α",
            checkpoint_pattern: "step_{step}",
            step_offset: 5,
            train_batch_size: 10,
          },
          "beta.1": {
            path: "org/beta",
            display_name: "Beta",
            model_key: "beta 1",
            tokens_trained: "1.5T",
          },
        },
      },
    });
    const { code, stderr } = await evalHive(create(place), callIn(place, python));
    assert.equal(code, 0, stderr);
    const manifest = await readFile(place.layout.manifest, "utf8");
    const entry = { model_key: "alpha", display_name: "Größe α", train_batch_size: 10 };
    assert.deepEqual(JSON.parse(manifest), {
      "alpha--step_20": {
        ...entry,
        ...{ label: "step_20", step: 25, model_path: `${series}/step_20`, tokens_trained: 200 },
      },
      "alpha--step_0100": {
        ...entry,
        ...{
          label: "step_0100",
          step: 105,
          model_path: `${series}/step_0100`,
          tokens_trained: 1000,
        },
      },
      "beta-1--main": {
        model_key: "beta 1",
        label: "main",
        step: null,
        model_path: "org/beta",
        display_name: "Beta",
        train_batch_size: null,
        tokens_trained: 1_500_000_000_000,
      },
    });
    const fields = "model_key label step model_path display_name train_batch_size tokens_trained";
    assert.deepEqual(Object.keys(JSON.parse(manifest)), [
      "alpha--step_20",
      "alpha--step_0100",
      "beta-1--main",
    ]);
    assert.equal(Object.keys(JSON.parse(manifest)["alpha--step_20"]).join(" "), fields);
    const python_text = execFileSync(python, [
      "-c",
      "import json, sys; sys.stdout.write(json.dumps(json.load(open(sys.argv[1])), indent=2))",
      place.layout.manifest,
    ]);
    assert.equal(manifest, python_text.toString());
    assert.deepEqual(JSON.parse(await readFile(place.layout.taskMap, "utf8")), {
      ev_mc: ["ev_mc"],
      x_suite: ["x_code", "x_cot", "a_gen", "x_gen", "x_mc", "x_mc", "x_rc", "b"],
    });
    assert.equal(
      await readFile(place.layout.config, "utf8"),
      await readFile(place.configFile, "utf8"),
    );
  });

  test("what exclude_tasks leaves out is in no suite, and the rest is all there is to do", async (t) => {
    const python = requirePython(t);
    if (python === undefined) return;
    const suites = ["left_over", "small_00"];
    await using at = await recorded(python, { suites, leaves: 1, taskFiles: leftOver });
    const { place, call } = at;
    const { layout } = place;
    await place.writeConfig({ suites, config: { eval: { exclude_tasks: ["small_00"] } } });
    assert.equal((await evalHive(create(place), call)).code, 0);
    const taskMap = JSON.parse(await readFile(layout.taskMap, "utf8"));
    assert.deepEqual(taskMap, { left_over: ["ev_mc"] });
    assert.deepEqual(await publishedLeaves(layout), once(["small-0--main"], ["ev_mc"]));
    const { plan, manifest } = await readRun(layout);
    assert.deepEqual(plan.excluded, ["small_00"]);
    // As if an agent had evaluated it.
    const [entry] = manifest.values();
    const fingerprint = plan.profiles["default"]?.fingerprints["ev_mc" as never];
    assert(entry !== undefined && fingerprint !== undefined);
    const results = leafDirectory(plan.output_path, entry);
    await mkdir(results, { recursive: true });
    await writeFile(join(results, leafFileName("ev_mc" as never, fingerprint)), "");
    const status = await evalHive(["status", layout.directory, "--detailed", "--json"], call);
    const [unit] = JSON.parse(status.stdout).units;
    assert.deepEqual([unit.state, unit.leaf_states], ["completed", { ev_mc: "done" }]);
    assert.deepEqual(unit.suites, [{ suite: "left_over", done: 1, total: 1 }]);

    assert.equal(await readFile(layout.completedUnits, "utf8"), "");
    assert.equal((await evalHive(create(place, "--force"), call)).code, 0);
    assert.equal(await readFile(layout.completedUnits, "utf8"), "small-0--main\n");
  });

  test("--dry says what it would do, and writes nothing at all", async (t) => {
    const python = requirePython(t);
    if (python === undefined) return;
    await using at = await recorded(python, { units: 2 });
    const { place, call } = at;
    const before = await contentOfPlace(place);
    const dry = await evalHive(create(place, "--dry", "--json"), call);
    assert.equal(dry.code, 0, dry.stderr);
    const answer = JSON.parse(dry.stdout);
    assert.deepEqual([answer.dry, answer.units, answer.leaves], [true, 2, 3]);
    assert.deepEqual([answer.published_leaves, answer.covered_leaves], [6, 0]);
    assert.deepEqual(await contentOfPlace(place), before);
    assert.equal((await evalHive(create(place), call)).code, 0);
    const created = await contentOfPlace(place);
    for (const mode of ["--update", "--force"]) {
      const text = await evalHive(create(place, mode, "--dry"), call);
      assert.match(text.stdout, /nothing was written/);
    }
    assert.deepEqual(await contentOfPlace(place), created);
  });

  test("needs --update or --force where a run is; an update without news publishes nothing", async (t) => {
    const python = requirePython(t);
    if (python === undefined) return;
    await using at = await recorded(python, { units: 2 });
    const { place, call } = at;
    assert.equal((await evalHive(create(place), call)).code, 0);
    const created = await contentOf(place.layout.directory);
    const again = await evalHive(create(place), call);
    assert.equal(again.code, 2);
    assert.match(again.stderr, /one is there\n.*--update.*--force/);
    assert.deepEqual(await contentOf(place.layout.directory), created);

    const update = await evalHive(create(place, "--update"), call);
    assert.equal(update.code, 0);
    assert.match(update.stdout, /up to date: nothing was published/);
    assert.match(update.stdout, /0 evaluations to do, 6 under way or waiting, 0 have/);
    const updated = await contentOf(place.layout.directory);
    const record = /^queue\/plan-owner\//;
    const essence = (content: Record<string, string>) =>
      Object.entries(content).filter(([name]) => !record.test(name));
    assert.deepEqual(essence(updated), essence(created));

    const force = await evalHive(create(place, "--force"), call);
    assert.match(force.stdout, /6 evaluations to do, 0 have/);
    assert.equal((await readPlan(place.layout)).epoch, 2);
  });

  test("publishes what an update adds, drops what it removes, and takes back what returns", async (t) => {
    const python = requirePython(t);
    if (python === undefined) return;
    await using at = await recorded(python, { units: 1 });
    const { place, call } = at;
    const { layout } = place;
    const suites = (...names: string[]) => ({ suites: names });
    const update = async (changes: Parameters<SmallPlace["writeConfig"]>[0]) => {
      await place.writeConfig(changes);
      const { code, stdout, stderr } = await evalHive(create(place, "--update", "--json"), call);
      assert.equal(code, 0, stderr);
      return JSON.parse(stdout).published_leaves as number;
    };
    assert.equal((await evalHive(create(place), call)).code, 0);
    assert.equal(await update({ units: 2, ...suites("small_00", "small_01", "ev_mc") }), 4);
    const { plan, manifest } = await readRun(layout);
    assert.deepEqual([...manifest.keys()], ["small-0--main", "small-1--main"]);
    assert.deepEqual(Object.keys(plan.leaves), ["small_00", "small_01", "ev_mc"]);
    assert.equal(await update({ units: 1, ...suites("small_00", "small_01", "ev_mc") }), 0);
    assert.deepEqual([...(await readRun(layout)).manifest.keys()], ["small-0--main"]);
    // As if an agent had done all of the second unit meanwhile, and somebody had removed the results.
    await using queue = await openFsQueue({ layout, epoch: plan.epoch });
    for (;;) {
      const lease = await queue.claim(shardId("small-1--main" as never, 0), "some-agent" as never);
      if (lease === undefined) break;
      await lease.finish();
    }
    assert.equal(await update({ units: 2, ...suites("small_00", "small_01", "ev_mc") }), 3);
    const returned = (await readPlan(layout)).units[1];
    assert.deepEqual(returned?.generations, [1]);
  });

  test("an update turns the fast engine off, and what is published stays as it is", async (t) => {
    const python = requirePython(t);
    if (python === undefined) return;
    await using at = await recorded(python, { units: 2 });
    const { place, call } = at;
    assert.equal((await evalHive(create(place), call)).code, 0);
    const { profiles } = await readPlan(place.layout);
    assert.equal(profiles["default"]?.engine, "fast");
    const config = JSON.parse(await readFile(place.configFile, "utf8"));
    await writeFile(place.configFile, JSON.stringify({ ...config, harness_engine: "plain" }));
    const update = await evalHive(create(place, "--update", "--json"), call);
    assert.equal(update.code, 0, update.stderr);
    assert.equal(JSON.parse(update.stdout).published_leaves, 0);
    const updated = await readPlan(place.layout);
    assert.deepEqual(updated.profiles, { default: { ...profiles["default"], engine: "plain" } });
  });

  test("of several for one directory one creates the run, and the others say so", async (t) => {
    const python = requirePython(t);
    if (python === undefined) return;
    await using at = await recorded(python, { units: 2 });
    const { place, call } = at;
    // What is asked of lm_eval is known from now on: the four come close to each other.
    await evalHive(create(place, "--dry"), call);
    const calls = await Promise.all(Array.from({ length: 4 }, () => evalHive(create(place), call)));
    assert.deepEqual(calls.map(({ code }) => code).sort(), [0, 2, 2, 2]);
    for (const { code, stderr } of calls) if (code === 2) assert.match(stderr, /one is there/);
    assert.deepEqual(
      await publishedLeaves(place.layout),
      once(["small-0--main", "small-1--main"], ["small_00", "small_01", "small_02"]),
    );
  });

  test("of several updates one after the other takes effect, and no work is published twice", async (t) => {
    const python = requirePython(t);
    if (python === undefined) return;
    await using at = await recorded(python, { units: 1 });
    const { place, call } = at;
    assert.equal((await evalHive(create(place), call)).code, 0);
    const configs: string[] = [];
    for (const suite of ["ev_mc", "ev_rolling"]) {
      await place.writeConfig({ suites: ["small_00", suite] });
      const config = join(place.root, `${suite}.yaml`);
      await writeFile(config, await readFile(place.configFile, "utf8"));
      configs.push(config);
      await evalHive(
        ["create-run", "-c", config, "-o", place.layout.directory, "--update", "--dry"],
        call,
      );
    }
    const calls = await Promise.all(
      configs.map((config) =>
        evalHive(["create-run", "-c", config, "-o", place.layout.directory, "--update"], call),
      ),
    );
    assert.deepEqual(
      calls.map(({ code }) => code),
      [0, 0],
    );
    const { plan } = await readRun(place.layout);
    const last = await readFile(place.layout.config, "utf8");
    assert.equal(last, await readFile(plan.config_file, "utf8"));
    assert.deepEqual(
      Object.keys(JSON.parse(await readFile(place.layout.taskMap, "utf8"))),
      plan.suites.map(({ name }) => name),
    );
    const counts = await publishedLeaves(place.layout);
    for (const leaf of Object.keys(plan.leaves)) {
      assert.equal(counts[`small-0--main ${leaf}`], 1, leaf);
    }
  });

  /** Calls create-run with its calls to the file system counted, and disturbed as `interruption` says. */
  async function createDisturbed(
    args: readonly string[],
    { cwd, env }: Call,
    interruption: Readonly<Record<string, string>>,
  ) {
    const preload = ["--import", join(root, "test/queue/interrupt-calls.ts")];
    const main = join(root, "dist/cli/eval-hive.mjs");
    return await runToEnd(process.execPath, [...preload, main, ...args], {
      cwd,
      env: { ...env, ...interruption },
    });
  }

  const modes = isLong ? (["new", "update", "force"] as const) : (["new", "update"] as const);
  for (const mode of modes) {
    test(`killed at any step is completed by the next: ${mode}`, async (t) => {
      const python = requirePython(t);
      if (python === undefined) return;
      await using at = await recorded(python, { units: 2 });
      const { place, call } = at;
      const flags = mode === "new" ? [] : [`--${mode}`];
      const published =
        mode === "new" ? ["small_00", "small_01", "small_02"] : ["small_01", "small_02", "ev_mc"];
      const runs = join(place.root, "runs");
      const prepared = join(place.root, "prepared");
      if (mode !== "new") {
        assert.equal((await evalHive(create(place), call)).code, 0);
        await cp(runs, prepared, { recursive: true });
        await place.writeConfig({ units: 1, suites: published });
      }
      const whole = await createDisturbed(create(place, ...flags), call, { EH_FAIL_AT: "999999" });
      const total = Number(/^(\d+) calls, none refused$/m.exec(whole.stderr)?.[1]);
      assert(total > 80, whole.stderr);
      await assertComplete("undisturbed");

      for (const step of chooseSteps(total)) {
        await rm(runs, { recursive: true, force: true });
        if (mode !== "new") await cp(prepared, runs, { recursive: true });
        await createDisturbed(create(place, ...flags), call, { EH_KILL_AT: `${step}` });
        const between = await readRun(place.layout).catch((error: unknown) => error);
        const isRun = !(between instanceof RunDirectoryError);
        if (mode !== "new") assert(isRun, `the run can't be read after step ${step}: ${between}`);
        const nextFlags = mode === "new" && isRun ? ["--update"] : flags;
        const next = await evalHive(create(place, ...nextFlags), call);
        assert.equal(next.code, 0, `step ${step}: ${next.stderr}`);
        await assertComplete(`step ${step} of ${total}`);
      }

      async function assertComplete(when: string): Promise<void> {
        const { plan, manifest } = await readRun(place.layout);
        const units = plan.units.map(({ id }) => id);
        assert.deepEqual([...manifest.keys()], units, when);
        assert.deepEqual(Object.keys(plan.leaves), published, when);
        const counts = await publishedLeaves(place.layout);
        for (const leaf of Object.keys(once(units, published))) {
          assert.equal(counts[leaf], 1, `${leaf}: ${when}`);
        }
        const names = await readdir(place.layout.directory);
        const temporary = names.filter((name) => name.startsWith("."));
        assert.deepEqual(temporary, [], when);
      }
    });
  }

  /** All of them, or one while files are still read and one while they are written. */
  function chooseSteps(total: number): number[] {
    if (isLong) return Array.from({ length: total }, (_, n) => n + 1);
    const within = (from: number, to: number) => from + Math.floor(Math.random() * (to - from));
    const start = total - 75;
    return [within(1, start), within(start, total)];
  }
});

describe("while agents run", { concurrency: 2 }, () => {
  test("an update's suites and models are seen within a minute, and what it removed is dropped", async (t) => {
    const python = requirePython(t);
    if (python === undefined) return;
    await using place = await makeSmallPlace({ leaves: 6, slots: 2 });
    const call = callIn(place, python);
    const { layout } = place;
    await place.hold();
    await using run = await startEvalHive(["run", place.configFile, "-o", layout.directory], call);
    const atHand = await awaitHeld(layout, 2);
    const wanted = [...atHand, "ev_rolling"];
    await place.writeConfig({ units: 2, suites: wanted });
    const args = ["create-run", "-c", place.configFile, "-o", layout.directory, "--update"];
    const update = await evalHive(args, call);
    assert.equal(update.code, 0, update.stderr);
    await until(async () => (await readEventsOf(layout, "agent.plan-changed")).length > 0, {
      timeoutMs: 180_000,
      what: "the agent sees the new plan",
    });
    await place.letGo();
    assert.deepEqual(await run.ended, { code: 0, signal: undefined }, run.stderr());
    const starts = (await readEventsOf(layout, "leaf.started")).map(
      ({ unit, leaf }) => `${unit} ${leaf}`,
    );
    const expected = Object.keys(once(["small-0--main", "small-1--main"], wanted));
    assert.deepEqual(starts.sort(), expected.sort());
    assert.deepEqual(await processesOfRun(place.root), []);
  });

  test("a forced plan lets the leaves at hand finish and goes on in a new epoch", async (t) => {
    const python = requirePython(t);
    if (python === undefined) return;
    await using place = await makeSmallPlace({ leaves: 4, slots: 2 });
    const call = callIn(place, python);
    const { layout } = place;
    await place.hold();
    await using run = await startEvalHive(["run", place.configFile, "-o", layout.directory], call);
    await awaitHeld(layout, 2);
    const args = ["create-run", "-c", place.configFile, "-o", layout.directory, "--force"];
    const force = await evalHive(args, call);
    assert.equal(force.code, 0, force.stderr);
    await until(async () => (await readEventsOf(layout, "agent.plan-changed")).length > 0, {
      timeoutMs: 180_000,
      what: "the agent sees the new epoch",
    });
    await place.letGo();
    assert.deepEqual(await run.ended, { code: 0, signal: undefined }, run.stderr());
    const starts = (await readEventsOf(layout, "leaf.started")).map(({ leaf }) => leaf);
    assert.deepEqual(starts.sort(), ["small_00", "small_01", "small_02", "small_03"]);
    assert.equal((await readEventsOf(layout, "agent.started")).length, 1);
    await using queue = await openFsQueue({ layout });
    const census = await queue.census(shardId("small-0--main" as never, 0));
    assert.deepEqual([queue.epoch, census.folded], [2, true]);
  });
});
