import assert from "node:assert/strict";
import { readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { sendSignal } from "../../src/base/proc.ts";
import { openFsQueue } from "../../src/queue/fs-queue.ts";
import { readStoppedUnits, recordUnitFailure } from "../../src/queue/stopped-units.ts";
import { readStrikes } from "../../src/queue/strikes.ts";
import { requirePython } from "../support/require.ts";
import {
  awaitHeld,
  completionsCommand,
  type LeadProcess,
  makeSmallRun,
  type SmallRun,
  smallUnit,
} from "../support/small-run.ts";
import { temporaryDirectory } from "../support/temporary.ts";
import { until } from "../support/until.ts";

/** `done`, `ready` or `owned` of every batch of the run. */
async function batchStates({ layout, plan }: SmallRun): Promise<string[]> {
  await using queue = await openFsQueue({ layout });
  const kinds: string[] = [];
  for (const shard of await queue.shards()) {
    for (const { kind } of (await queue.census(shard)).batches.values()) kinds.push(kind);
  }
  assert.ok(plan.units.length > 0);
  return kinds;
}

/** After its end: nothing that it has started runs, no batch is its own, and its heartbeat is gone. */
async function assertNothingLeft(run: SmallRun, lead: LeadProcess): Promise<void> {
  assert.deepEqual(await lead.descendants(), []);
  assert.ok(!(await batchStates(run)).includes("owned"));
  assert.deepEqual(await readdir(run.layout.heartbeats), []);
}

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

test("a server that is killed in mid-run comes back, and lm_eval notices nothing", async (t) => {
  const python = requirePython(t);
  if (python === undefined) return;
  await using run = await makeSmallRun({ python });
  await run.hold();
  const lead = await run.startLead();
  await awaitHeld(run.layout, 2);
  const [server] = await lead.descendants("completions-server.ts");
  sendSignal(server as number, "SIGKILL");
  await until(async () => (await run.events("server.restarted")).length > 0);
  await run.letGo();
  const { exit } = await lead.end();
  assert.equal(exit.code, 0);
  await assertNothingLeft(run, lead);
  assert.equal((await run.leafFiles()).length, 3);
  assert.deepEqual(await run.events("leaf.failed"), []);
  const [restarted] = await run.events("server.restarted");
  assert.equal(restarted?.reason.split("\n")[0], "the server ended (SIGKILL)");
  const log = `small-${smallUnit(0)}-local-harness.log`;
  assert.doesNotMatch(await readFile(join(run.layout.logs, log), "utf8"), /retry|failed/i);
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

test("a lead that drains finishes the leaves at hand and takes no other; the next lead goes on", async (t) => {
  const python = requirePython(t);
  if (python === undefined) return;
  await using run = await makeSmallRun({ python, leaves: 5 });
  const early = await run.startLead();
  await until(async () => (await run.events("batch.leased")).length === 2);
  early.signal("SIGUSR1");
  assert.deepEqual((await early.end()).said.reason, "time-limit");
  await assertNothingLeft(run, early);
  assert.deepEqual(await run.leafFiles(), []);

  await run.hold();
  const lead = await run.startLead();
  await awaitHeld(run.layout, 2);
  lead.signal("SIGUSR2");
  await until(async () => (await run.events("agent.draining")).length === 2);
  await run.letGo();
  const { exit, said } = await lead.end();
  assert.deepEqual([exit.code, said.reason], [4, "time-limit"]);
  await assertNothingLeft(run, lead);
  assert.equal((await run.leafFiles()).length, 2);

  const last = await run.startLead();
  assert.equal((await last.end()).said.reason, "complete");
  assert.equal((await run.leafFiles()).length, 5);
  assert.equal((await run.events("leaf.started")).length, 5);
});

test("a lead that is aborted ends at once, wherever it is, and leaves nothing", async (t) => {
  const python = requirePython(t);
  if (python === undefined) return;
  await using run = await makeSmallRun({ python });
  await run.hold();
  const atHarness = async (lead: LeadProcess) =>
    await until(async () => (await lead.descendants("eval_hive_harness")).length > 0);
  const atLeaf = () => awaitHeld(run.layout, 2);
  const ways: [string, (lead: LeadProcess) => Promise<unknown>, (lead: LeadProcess) => void][] = [
    ["interrupted", atHarness, (lead) => lead.signal("SIGTERM")],
    ["interrupted", atLeaf, (lead) => lead.say("abort")],
    ["parent-lost", async () => {}, (lead) => lead.letGo()],
  ];
  for (const [reason, when, end] of ways) {
    const lead = await run.startLead();
    await until(async () => (await run.events("agent.started")).at(-1)?.owner === lead.owner);
    await when(lead);
    end(lead);
    // Twice the longest that a child may take: nothing here waits for a time-out.
    const { exit, said } = await lead.end(16_000);
    assert.deepEqual([exit.code, said.reason], [4, reason]);
    await assertNothingLeft(run, lead);
  }
  assert.deepEqual(await run.leafFiles(), []);
  assert.deepEqual(new Set(await batchStates(run)), new Set(["ready"]));
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
    timeoutMs: 60_000,
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
  const order = (await run.events("leaf.started")).map(({ unit, leaf }) => `${unit} ${leaf}`);
  assert.deepEqual(
    order,
    [0, 1, 2].flatMap((n) => suites.map((suite) => `${smallUnit(n)} ${suite}`)),
  );
});

test("a lead that can't work says why in one line, with the exit code of its error", async (t) => {
  const python = requirePython(t);
  if (python === undefined) return;
  await using run = await makeSmallRun({ python, leaves: 1 });
  const plan = JSON.parse(await readFile(run.layout.plan, "utf8"));
  plan.harness.versions.lm_eval_sha256 = "f".repeat(64);
  await writeFile(run.layout.plan, JSON.stringify(plan));
  const refused = await run.startLead();
  const { exit, said } = await refused.end();
  assert.deepEqual([exit.code, said.reason, said.exit_code], [3, "failed", 3]);
  assert.match(said.message ?? "", /has other files than when the run was planned/);
  await assertNothingLeft(run, refused);
  assert.equal((await run.events("agent.ended")).at(-1)?.reason, "failed");

  plan.harness.argv = ["/no/such/python"];
  await writeFile(run.layout.plan, JSON.stringify(plan));
  const lost = await (await run.startLead()).end();
  assert.equal(lost.said.exit_code, 3);
  assert.match(lost.said.message ?? "", /Cannot keep the harness running: .*"\/no\/such\/python"/);

  await writeFile(run.layout.plan, "{}");
  const unplanned = await (await run.startLead()).end();
  assert.equal(unplanned.said.reason, "failed");
  assert.equal(unplanned.exit.code, unplanned.said.exit_code);
  assert.match(unplanned.said.message ?? "", /schema_version/);
});
