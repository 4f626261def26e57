import assert from "node:assert/strict";
import { cp, mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { readStrikes, recordStrike, strikeKey } from "../../src/queue/strikes.ts";
import type { Fingerprint, LeafId } from "../../src/run/ids.ts";
import { readPlan } from "../../src/run/plan-file.ts";
import { callIn, evalHive, startEvalHive } from "../support/eval-hive.ts";
import { isLong, requirePython } from "../support/require.ts";
import { makeSmallPlace, type SmallPlace, smallUnit } from "../support/small-run.ts";
import { until } from "../support/until.ts";
import { assertTidyResults } from "../support/whole-state.ts";

/** Tasks that go wrong as long as there is a file `broken`. */
const breakable = {
  "crashes.yaml":
    "include: _mc_base\ntask: crashes\nprocess_results: !function breakable.crash_while_broken\n",
  "hangs.yaml":
    "include: _mc_base\ntask: hangs\nprocess_results: !function breakable.hang_while_broken\n",
  "breakable.py": `import os
import signal
import time


def crash_while_broken(doc, results):
    if broken():
        os.kill(os.getpid(), signal.SIGSEGV)
    return {"acc": 1.0}


def hang_while_broken(doc, results):
    while broken():
        time.sleep(0.01)
    return {"acc": 1.0}


def broken():
    return os.path.exists(os.path.join(os.environ["EH_TEST_RUN"], "broken"))
`,
};

/** Puts the data of `ev_missing_data` where `datasets` looks for it offline: as if it had been fetched meanwhile. */
async function fetchMissingData(place: SmallPlace): Promise<void> {
  const datasets = join(place.env["HF_HOME"] ?? "", "datasets");
  const names = await readdir(join(datasets, "json"), { recursive: true });
  // Of those with a test split alone.
  const cached = names.find(
    (name) => name.endsWith("json-test.arrow") && !names.includes(name.replace("-test", "-train")),
  );
  assert(cached !== undefined);
  const name = "there-is-no-such-data";
  const to = join(datasets, `eval-hive-tests___${name}/default/0.0.0/${"0".repeat(40)}`);
  await mkdir(to, { recursive: true });
  const from = join(datasets, "json", cached, "..");
  await cp(join(from, "dataset_info.json"), join(to, "dataset_info.json"));
  await cp(join(from, "json-test.arrow"), join(to, `${name}-test.arrow`));
}

test("tasks that crash, hang or lack their data are dead with the reason, cost no other, and get another chance when mended", async (t) => {
  const python = requirePython(t);
  if (python === undefined) return;
  await using place = await makeSmallPlace({
    suites: ["crashes", "hangs", "ev_missing_data"],
    leaves: 2,
    slots: 2,
    taskFiles: breakable,
  });
  const call = callIn(place, python);
  const { layout } = place;
  const planned = await evalHive(
    ["create-run", "-c", place.configFile, "-o", layout.directory],
    call,
  );
  assert.equal(planned.code, 0, planned.stderr);
  await writeFile(join(place.root, "broken"), "");
  await shortenPhases(place);
  await strikeTwice(place, "hangs" as LeafId);

  const failed = await evalHive(["run", layout.directory], call);
  assert.equal(failed.code, 4, failed.stderr);
  assert.match(failed.stdout, /^2 of 5 leaves done$/m);
  const told = {
    crashes:
      /dead: crashes: crash: The evaluation ended by SIGSEGV in the middle of a task\n {2}Read the log.* requeue$/m,
    hangs:
      /dead: hangs: metric: Scoring took longer than .* raise eval\.phase_timeout_minutes\n {2}.* requeue$/m,
    "no data":
      /dead: ev_missing_data: data-offline: .*there-is-no-such-data.*\n {2}Fetch the data set where there is a network.* requeue$/m,
  };
  for (const [what, message] of Object.entries(told)) {
    await t.test(what, () => assert.match(failed.stdout, message));
  }

  await rm(join(place.root, "broken"));
  await fetchMissingData(place);
  const requeued = await evalHive(["requeue", layout.directory], call);
  assert.match(requeued.stdout, /^3 leaves get another chance$/m);
  const done = await evalHive(["run", layout.directory], call);
  assert.equal(done.code, 0, done.stdout + done.stderr);
  await assertTidyResults(place, 5);
});

/** A config can't have less than a minute. */
async function shortenPhases({ layout }: SmallPlace): Promise<void> {
  const plan = JSON.parse(await readFile(layout.plan, "utf8"));
  plan.profiles.default.phase_timeout_s = 5;
  await writeFile(layout.plan, JSON.stringify(plan));
}

/** A third time is enough then. */
async function strikeTwice({ layout }: SmallPlace, leaf: LeafId): Promise<void> {
  const { profiles } = await readPlan(layout);
  const fingerprint = profiles["default"]?.fingerprints[leaf] as Fingerprint;
  for (const attempt of [1, 2]) {
    await recordStrike(layout, smallUnit(0), strikeKey(leaf, fingerprint), {
      kind: "strike",
      class: "metric",
      permanent: false,
      message: "an earlier one",
      trace_tail: [],
      owner: "earlier",
      batch: "earlier",
      attempt,
      at: "2026-11-26T00:00:00.000Z",
    });
  }
}

const many = isLong ? 2_000 : 400;

test(`a missing extra in ${many} leaves stops the unit after a few, is told once, and costs none of them a strike`, async (t) => {
  const python = requirePython(t);
  if (python === undefined) return;
  const yaml = (n: number) =>
    `include: _mc_base\ntask: needy_${n}\ntag: needy\nprocess_docs: !function needy.first_two\n`;
  const taskFiles = {
    ...Object.fromEntries(Array.from({ length: many }, (_, n) => [`needy_${n}.yaml`, yaml(n)])),
    "needy.py": "from an_extra import first_two  # noqa: F401\n",
  };
  await using place = await makeSmallPlace({ suites: ["needy"], slots: 2, taskFiles });
  const extras = join(place.root, "extras");
  await place.writeConfig({ config: { env_vars: { PYTHONPATH: extras } } });
  const call = callIn(place, python);
  const { layout } = place;
  const run = ["run", place.configFile, "-o", layout.directory];

  const stopped = await evalHive(run, call);
  assert.equal(stopped.code, 4, stopped.stderr);
  const told = stopped.stdout.match(/^.*missing-module.*\n.*$/gm) ?? [];
  assert.equal(told.length, 1, stopped.stdout);
  assert.match(
    told[0] ?? "",
    /small-0--main was given up: missing-module: 5 different tasks failed .*No module named 'an_extra'\n {2}Install what is missing into the Python of the run; then run again/,
  );
  const begun = (await place.events("batch.leased")).length;
  assert.ok(begun <= 6, `${begun} batches were begun`);
  // A child may have gone through the rest of its batch of eight before it hears that the unit has stopped.
  const failed = (await place.events("leaf.failed")).length;
  assert.ok(failed <= 8 * begun, `${failed} leaves failed`);
  await assertNothingCounts(place);

  await mkdir(extras);
  await writeFile(
    join(extras, "an_extra.py"),
    "def first_two(dataset):\n    return dataset.select(range(2))\n",
  );
  await using mended = await startEvalHive(run, call);
  await until(async () => (await place.leafFiles()).length >= 12, { timeoutMs: 60_000 });
  mended.signal("SIGINT");
  assert.deepEqual(await mended.ended, { code: 130, signal: undefined }, mended.stderr());
  assert.equal((await place.events("unit.failed")).length, 1);
  await assertNothingCounts(place);
});

/** No leaf is dead or invalid, and none has a strike. */
async function assertNothingCounts(place: SmallPlace): Promise<void> {
  const { total, dead, invalid } = (await place.state()).leaves;
  assert.deepEqual({ total, dead, invalid }, { total: many, dead: 0, invalid: 0 });
  const strikes = await readStrikes(place.layout, smallUnit(0));
  assert.deepEqual(
    [...strikes].filter(([, { strikes: n }]) => n > 0),
    [],
  );
}
