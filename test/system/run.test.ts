import assert from "node:assert/strict";
import { readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { hostname } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { RunLayout } from "../../src/run/layout.ts";
import { callIn, evalHive, launcher, startCommand, startEvalHive } from "../support/eval-hive.ts";
import { processesOfRun } from "../support/processes.ts";
import { requirePython } from "../support/require.ts";
import { awaitHeld, makeSmallPlace, readEventsOf } from "../support/small-run.ts";
import { until } from "../support/until.ts";

const slots = 2;

test("one run: interrupted, ended, hung up and gone on with, until all is done and nothing is left to do", async (t) => {
  const python = requirePython(t);
  if (python === undefined) return;
  await using place = await makeSmallPlace({ leaves: 7, slots });
  const call = callIn(place, python);
  const directory = join(place.tasks, "runs/eh_config");
  const layout = new RunLayout(directory);
  const nothingRuns = async () => assert.deepEqual(await processesOfRun(place.root), []);
  const agents = async () => (await readEventsOf(layout, "agent.started")).length;

  await t.test("Ctrl-C lets the leaves at hand finish, and no other begin", async (t) => {
    await place.hold();
    await using one = await startEvalHive(["run", place.configFile], call);
    await using other = await startEvalHive(["run", place.configFile], call);
    await awaitHeld(layout, slots);

    // Both have planned; one of them runs.
    const loser = await Promise.race([one.ended.then(() => one), other.ended.then(() => other)]);
    const run = loser === one ? other : one;
    assert.equal((await loser.ended).code, 3, loser.stderr());
    assert(loser.stderr().includes(`process ${run.pid} on host`), loser.stderr());

    await t.test(
      "meanwhile a second run is refused with the first one's host and pid",
      async () => {
        for (const args of [[directory], [place.configFile], [directory, "--take-over"]]) {
          const { code, stdout, stderr } = await evalHive(["run", ...args], call);
          assert.deepEqual([code, stdout], [3, ""]);
          const holder = `process ${run.pid} on host "${hostname()}" is at work there`;
          assert(stderr.includes(holder), stderr);
        }
      },
    );

    run.signal("SIGINT");
    await until(async () => (await readEventsOf(layout, "agent.draining")).length > 0);
    await place.letGo();
    assert.deepEqual(await run.ended, { code: 130, signal: undefined });
    assert.equal((await place.leafFiles()).length, slots);
    assert.equal(run.stdout(), "2 of 7 leaves done\nnext: eval-hive status runs/eh_config\n");
    assert.equal(await readFile(layout.completedUnits, "utf8"), "");
    assert.match(
      await readFile(layout.failedUnits, "utf8"),
      /^small-0--main [-\d]{10} [:\d]{8} manual_cancellation local 2 of 7 leaves done.*\n$/,
    );
    await nothingRuns();
  });

  await t.test("Ctrl-C twice ends at once, whatever is at hand", async () => {
    await place.hold();
    await using run = await startEvalHive(["run", directory], call);
    await awaitHeld(layout, slots);
    run.signal("SIGINT");
    await until(async () => (await readEventsOf(layout, "agent.draining")).length > 1);
    run.signal("SIGINT");
    assert.deepEqual(await run.ended, { code: 130, signal: undefined });
    assert.equal((await place.leafFiles()).length, slots);
    await nothingRuns();
  });

  for (const [signal, code] of [
    ["SIGTERM", 143],
    ["SIGHUP", 129],
  ] as const) {
    await t.test(
      `${signal} ends at once and in good order, also while all is starting`,
      async () => {
        const before = await agents();
        await using run = await startEvalHive(["run", directory, "--json"], call);
        await until(async () => (await agents()) > before);
        run.signal(signal);
        assert.deepEqual(await run.ended, { code, signal: undefined });
        const { schema_version, complete, leaves } = JSON.parse(run.stdout());
        assert.deepEqual([schema_version, complete, leaves.done], [1, false, slots]);
        await nothingRuns();
        const ends = await readEventsOf(layout, "agent.ended");
        assert.equal(ends.at(-1)?.reason, "interrupted");
        assert.equal(ends.length, before + 1);
      },
    );
  }

  await t.test(
    "under nohup a lost terminal changes nothing; the next call goes on to the end",
    async () => {
      const command = `trap "" HUP; exec "${launcher}" run "${place.configFile}"`;
      await using run = await startCommand("sh", ["-c", command], call);
      await awaitHeld(layout, slots);
      run.signal("SIGHUP");
      await place.letGo();
      assert.deepEqual(await run.ended, { code: 0, signal: undefined }, run.stderr());
      assert.match(run.stdout(), /^7 of 7 leaves done/m);
      assert.equal((await place.leafFiles()).length, 7);
      assert.equal(await readFile(layout.completedUnits, "utf8"), "small-0--main\n");
      await nothingRuns();
    },
  );

  await t.test("when all is done, a further call does nothing", async () => {
    const before = await agents();
    const again = await evalHive(["run", place.configFile, "--json"], call);
    const { complete, leaves } = JSON.parse(again.stdout);
    assert.deepEqual([again.code, complete, leaves.done], [0, true, 7]);
    assert.equal(await agents(), before);
  });

  await t.test("a leaf file that somebody deleted is evaluated again, and only it", async () => {
    const [deleted] = (await place.leafFiles()).filter((name) => name.includes("small_03."));
    assert(deleted !== undefined);
    await rm(join(place.results, deleted));
    const starts = async () =>
      (await readEventsOf(layout, "leaf.started")).map(({ leaf }) => leaf as string);
    const before = await starts();
    const again = await evalHive(["run", directory], call);
    assert.equal(again.code, 0, again.stderr);
    assert.equal((await place.leafFiles()).length, 7);
    const after = await starts();
    assert.deepEqual(after.slice(before.length), ["small_03"]);
  });

  await t.test("an option that would plan otherwise is refused where a plan is", async () => {
    for (const option of [["--update"], ["--output", "elsewhere"], ["--python", "/no/python"]]) {
      const { code, stderr } = await evalHive(["run", directory, ...option], call);
      assert.equal(code, 2);
      assert(
        stderr.includes(`Cannot take ${option[0]}: "${directory}" is planned already`),
        stderr,
      );
    }
  });

  await t.test(
    "an agent that is gone from the store is named, and an update puts it back",
    async () => {
      const [done] = await place.leafFiles();
      const store = join(place.tasks, "runs/.eval-hive");
      await rename(join(place.results, done as string), join(place.root, "kept.json"));
      await rm(store, { recursive: true });
      const refused = await evalHive(["run", directory], call);
      assert.equal(refused.code, 3);
      assert(refused.stderr.includes(`Cannot find this run's agent in "${store}/`), refused.stderr);
      await rename(join(place.root, "kept.json"), join(place.results, done as string));
      assert.equal((await evalHive(["run", place.configFile, "--update"], call)).code, 0);
      assert.equal((await readdir(store)).length, 1);
    },
  );

  await t.test("another run with the same output_path finds all done", async () => {
    const other = join(place.root, "runs/other");
    const { code, stdout } = await evalHive(["run", place.configFile, "-o", other, "--json"], call);
    assert.deepEqual([code, JSON.parse(stdout).leaves.done], [0, 7]);
    assert.deepEqual(await readEventsOf(new RunLayout(other), "agent.started"), []);
  });

  await t.test("a config that has changed is named, and --update takes it in", async () => {
    const text = await readFile(place.configFile, "utf8");
    await writeFile(place.configFile, `${text}\n# another thought\n`);
    const refused = await evalHive(["run", place.configFile], call);
    assert.deepEqual([refused.code, refused.stdout], [2, ""]);
    assert(refused.stderr.includes(`"${place.configFile}" has changed`), refused.stderr);
    assert.match(refused.stderr, /--update/);
    const taken = await evalHive(["run", place.configFile, "--update"], call);
    assert.equal(taken.code, 0, taken.stderr);
    assert.equal((await evalHive(["run", place.configFile], call)).code, 0);
  });
});

test("Ctrl-C while a run is planned ends it at once, and nothing is there", async (t) => {
  const python = requirePython(t);
  if (python === undefined) return;
  await using place = await makeSmallPlace({ leaves: 1 });
  const call = callIn(place, python);
  for (const args of [
    ["run", place.configFile],
    ["create-run", "--json", "-c", place.configFile, "-o", "runs/eh_config"],
  ]) {
    await using command = await startEvalHive(args, call);
    await until(() => command.stderr().includes("reading the tasks"));
    command.signal("SIGINT");
    assert.deepEqual(await command.ended, { code: 130, signal: undefined }, command.stderr());
    await assert.rejects(readFile(join(place.tasks, "runs/eh_config/eh_plan.json")), /ENOENT/);
    await assert.rejects(readFile(join(place.tasks, "runs")), /ENOENT/);
    if (args[0] === "create-run") {
      assert.equal(JSON.parse(command.stdout()).error.code, "interrupted");
    }
    assert.deepEqual(await processesOfRun(place.root), []);
  }
});
