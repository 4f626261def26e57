import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { readStoppedUnits, recordUnitFailure } from "../../src/queue/stopped-units.ts";
import { readStrikes } from "../../src/queue/strikes.ts";
import { assertNothingLeft, batchStates } from "../support/lead-end.ts";
import { requirePython } from "../support/require.ts";
import { completionsCommand, makeSmallRun, smallUnit } from "../support/small-run.ts";
import { temporaryDirectory } from "../support/temporary.ts";
import { until } from "../support/until.ts";

test("a lead goes through units with servers of their own, and past those whose servers fail", async (t) => {
  const python = requirePython(t);
  if (python === undefined) return;
  await using run = await makeSmallRun({
    python,
    units: 4,
    profiles: {
      1: { inference_server_command: 'echo "no GPU here"; exit 7' },
      2: { inference_server_command: completionsCommand("--die-at 1") },
      3: { inference_server_command: completionsCommand("--delay-ms 1") },
    },
  });
  const lead = await run.startLead();
  const { exit, said } = await lead.end();
  assert.deepEqual([exit.code, said.reason, said.exit_code], [4, "incomplete", 4]);
  await assertNothingLeft(run, lead);

  const { units } = await run.state();
  assert.deepEqual(
    units.map(({ unit, leaves, stopped }) => [unit, leaves.done, stopped?.class]),
    [
      [smallUnit(0), 3, undefined],
      [smallUnit(1), 0, "server-start"],
      [smallUnit(2), 0, "server-crash-loop"],
      [smallUnit(3), 3, undefined],
    ],
  );
  assert.match(units[1]?.stopped?.reason ?? "", /exit code 7.*last line: no GPU here/);
  const strikes = [...(await readStrikes(run.layout, smallUnit(1))).values()];
  assert.deepEqual(strikes, []);
  for (const { strikes } of (await readStrikes(run.layout, smallUnit(2))).values()) {
    assert.equal(strikes, 0);
  }
  const failures = [...(await readStoppedUnits(run.layout)).values()];
  assert.deepEqual(
    failures.map(({ failures, waitsForPerson }) => [failures.length, waitsForPerson]),
    [
      [1, false],
      [1, false],
    ],
  );
  assert.deepEqual(await run.events("leaf.failed"), []);
  const log = `small-${smallUnit(1)}-local-server-0-attempt2.log`;
  assert.equal(await readFile(join(run.layout.logs, log), "utf8"), "no GPU here\n");
});

test("a module that every leaf lacks stops the unit after a handful, and the second time for good", async (t) => {
  const python = requirePython(t);
  if (python === undefined) return;
  const broken = Array.from({ length: 8 }, (_, n) => `broken_${n}`);
  const text = (name: string) =>
    `include: _mc_base\ntask: ${name}\nprocess_docs: !function faults.import_nothing\n`;
  await using run = await makeSmallRun({
    python,
    suites: broken,
    taskFiles: Object.fromEntries(broken.map((name) => [`${name}.yaml`, text(name)])),
  });
  const lead = await run.startLead();
  const { exit } = await lead.end();
  assert.equal(exit.code, 4);
  await assertNothingLeft(run, lead);
  const [stopped] = await run.events("unit.failed");
  assert.equal(stopped?.class, "missing-module");
  assert.match(stopped.reason, /^5 different tasks failed in a row.*a_module_that_nobody_has/);
  for (const { strikes } of (await readStrikes(run.layout, smallUnit(0))).values()) {
    assert.equal(strikes, 0);
  }
  assert.ok((await batchStates(run)).every((kind) => kind === "ready"));

  // After a second time it waits for a person: another agent does not even begin.
  const { reason, class: kind } = stopped;
  const again = { reason, class: kind, owner: lead.owner, at: new Date().toISOString() };
  await recordUnitFailure(run.layout, smallUnit(0), again);
  const next = await run.startLead();
  assert.equal((await next.end()).exit.code, 4);
  assert.equal((await run.events("unit.started")).length, 1);
});

test("bad leaves among good ones die after three strikes, and all others are done", async (t) => {
  const python = requirePython(t);
  if (python === undefined) return;
  await using run = await makeSmallRun({
    python,
    leaves: 3,
    suites: ["ev_crash", "ev_suicide", "ev_missing_module"],
  });
  const lead = await run.startLead();
  const { exit } = await lead.end();
  assert.equal(exit.code, 4);
  await assertNothingLeft(run, lead);
  assert.equal((await run.leafFiles()).length, 3);
  const dead = (await run.events("leaf.dead")).map(({ leaf, class: kind, strikes }) => [
    leaf,
    kind,
    strikes,
  ]);
  assert.deepEqual(dead.sort(), [
    ["ev_crash", "metric", 3],
    ["ev_missing_module", "missing-module", 3],
    ["ev_suicide", "memory", 3],
  ]);
  assert.ok((await batchStates(run)).every((kind) => kind === "done"));

  // What is dead is not tried again.
  const leaves = (await run.events("leaf.started")).length;
  assert.equal((await (await run.startLead()).end()).exit.code, 4);
  assert.equal((await run.events("leaf.started")).length, leaves);
});

/** A model that counts how often it was loaded, and answers by the length of what it is asked. */
const plugin = `
import os
from lm_eval.api.model import LM
from lm_eval.api.registry import register_model

@register_model("eval-hive-tiny")
class Tiny(LM):
    def __init__(self, path=None, **_):
        super().__init__()
        with open(os.environ["TINY_LOADS"], "a") as loads:
            loads.write(f"{os.getpid()} {path}\\n")

    def loglikelihood(self, requests):
        return [(-float(len(request.args[1])), False) for request in requests]

    def loglikelihood_rolling(self, requests):
        return [-float(len(request.args[0])) for request in requests]

    def generate_until(self, requests):
        return [request.args[0][-3:] for request in requests]
`;

test("a model that lm_eval loads itself is loaded once per unit, after the servers are gone; suites come in the config's order", async (t) => {
  const python = requirePython(t);
  if (python === undefined) return;
  const serverless = {
    inference_server_command: null,
    eval: {
      // Maps are merged: what the first unit needs is still there.
      model_args: { path: "${EH_MODEL_PATH}", base_url: "none" },
      lm_eval_args: { model: "eval-hive-tiny" },
    },
  };
  const suites = ["ev_rolling", "ev_mc", "ev_generate"];
  await using place = await temporaryDirectory();
  const loads = join(place.path, "loads");
  await writeFile(join(place.path, "tiny_plugin.py"), plugin);
  await using run = await makeSmallRun({
    python,
    suites,
    units: 3,
    profiles: { 1: serverless, 2: serverless },
    config: { task_batch_size: null },
    env: { EVAL_HIVE_PLUGINS: "tiny_plugin", PYTHONPATH: place.path, TINY_LOADS: loads },
  });
  const lead = await run.startLead();
  // Its server must not hold what the model of the next unit needs.
  await until(async () => (await readFile(loads, "utf8").catch(() => "")) !== "", {
    timeoutMs: 120_000,
  });
  assert.deepEqual(await lead.descendants("completions-server.ts"), []);
  const { exit } = await lead.end();
  assert.equal(exit.code, 0);
  await assertNothingLeft(run, lead);
  const loaded = (await readFile(loads, "utf8")).trimEnd().split("\n");
  assert.deepEqual(
    loaded.map((line) => line.split("/").at(-1)),
    ["small-1", "small-2"],
  );
  // The harness waits for its children, and so knows what they have cost.
  const harnesses = (await run.events("harness.ended")).map(({ cpu_s }) => cpu_s ?? 0);
  const batches = (await run.events("batch.ended")).map(({ cpu_s }) => cpu_s);
  assert.deepEqual([harnesses.length, batches.length], [2, 9]);
  const sum = (seconds: readonly number[]) => seconds.reduce((all, one) => all + one, 0);
  assert.ok(Math.min(...batches) > 0 && sum(harnesses) > sum(batches), `${harnesses}; ${batches}`);
  const order = (await run.events("leaf.started")).map(({ unit, leaf }) => `${unit} ${leaf}`);
  assert.deepEqual(
    order,
    [0, 1, 2].flatMap((n) => suites.map((suite) => `${smallUnit(n)} ${suite}`)),
  );
});
