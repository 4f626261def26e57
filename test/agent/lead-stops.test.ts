import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import { sendSignal } from "../../src/base/proc.ts";
import { assertNothingLeft, batchStates } from "../support/lead-end.ts";
import { isLong, requirePython, root } from "../support/require.ts";
import {
  awaitHeld,
  heldLeaves,
  type LeadProcess,
  makeSmallRun,
  type SmallRun,
  smallUnit,
} from "../support/small-run.ts";
import { until } from "../support/until.ts";

test("a lead outlives its server without lm_eval noticing, drains with the leaves at hand, aborts at once, and goes on", async (t) => {
  const python = requirePython(t);
  if (python === undefined) return;
  await using run = await makeSmallRun({ python, leaves: 4 });
  await run.hold();
  const first = await run.startLead();
  await awaitHeld(run.layout, 2);
  const [server] = await first.descendants("completions-server.ts");
  sendSignal(server as number, "SIGKILL");
  await until(async () => (await run.events("server.healthy")).length === 2);
  // Either of the two requests that were there may have killed it: they may come one after the other.
  await until(async () => (await heldLeaves(run.layout)).length > 0, { timeoutMs: 60_000 });
  const [restarted] = await run.events("server.restarted");
  assert.equal(restarted?.reason.split("\n")[0], "the server ended (SIGKILL)");

  first.signal("SIGUSR2");
  await until(async () => (await run.events("agent.draining")).length === 1);
  await run.letGo();
  const drained = await first.end();
  assert.deepEqual([drained.exit.code, drained.said.reason], [4, "time-limit"]);
  await assertNothingLeft(run, first);
  assert.equal((await run.leafFiles()).length, 2);
  const log = `small-${smallUnit(0)}-local-harness.log`;
  assert.doesNotMatch(await readFile(join(run.layout.logs, log), "utf8"), /retry|failed/i);

  await run.hold();
  const second = await run.startLead();
  await awaitHeld(run.layout, 2);
  second.say("abort");
  const aborted = await second.end();
  assert.deepEqual([aborted.exit.code, aborted.said.reason], [4, "interrupted"]);
  await assertNothingLeft(run, second);
  assert.equal((await run.leafFiles()).length, 2);

  await run.letGo();
  const third = await run.startLead();
  assert.equal((await third.end()).said.reason, "complete");
  await assertNothingLeft(run, third);
  assert.equal((await run.leafFiles()).length, 4);
  assert.deepEqual(await run.events("leaf.failed"), []);
});

describe("a lead whose harness does not get up", () => {
  // One run for all, with the harness of scripted-harness.ts: no leaf is ever begun.
  let shared: SmallRun | undefined;
  after(() => shared?.[Symbol.asyncDispose]());

  async function runWithoutLmEval(python: string): Promise<SmallRun> {
    shared ??= await makeSmallRun({ python });
    await writeFile(shared.layout.plan, JSON.stringify(planOf(shared)));
    return shared;
  }

  function planOf({ plan }: SmallRun): SmallRun["plan"] {
    const scripted = join(root, "test/support/scripted-harness.ts");
    return { ...plan, harness: { ...plan.harness, argv: [process.execPath, scripted] } };
  }

  const hanging = { env: { FAKE_HANGS: "1" } };

  async function untilHarnessStarts(lead: LeadProcess): Promise<void> {
    await until(async () => (await lead.descendants("scripted-harness.ts")).length > 0);
  }

  const ways: Record<string, { reason: string; stop: (lead: LeadProcess) => void }> = {
    SIGTERM: { reason: "interrupted", stop: (lead) => lead.signal("SIGTERM") },
    "the end of its leash": { reason: "parent-lost", stop: (lead) => lead.letGo() },
    SIGUSR1: { reason: "time-limit", stop: (lead) => lead.signal("SIGUSR1") },
    "drain on its leash": { reason: "interrupted", stop: (lead) => lead.say("drain") },
  };
  const chosen = Object.entries(ways).slice(0, isLong ? 4 : 2);
  for (const [what, { reason, stop }] of chosen) {
    test(`ends at once on ${what}, and holds nothing`, async (t) => {
      const python = requirePython(t);
      if (python === undefined) return;
      const run = await runWithoutLmEval(python);
      const lead = await run.startLead(hanging);
      await untilHarnessStarts(lead);
      stop(lead);
      const { exit, said } = await lead.end();
      assert.deepEqual([exit.code, said.reason], [4, reason]);
      await assertNothingLeft(run, lead);
      assert.deepEqual(new Set(await batchStates(run)), new Set(["ready"]));
    });
  }

  test("closes the inspector that an early USR1 has opened, and obeys", async (t) => {
    const python = requirePython(t);
    if (python === undefined) return;
    const run = await runWithoutLmEval(python);
    const open = 'data:text/javascript,import { open } from "node:inspector"; open(0);';
    const lead = await run.startLead({ ...hanging, nodeArgs: ["--import", open] });
    const { exit, said } = await lead.end();
    assert.deepEqual([exit.code, said.reason], [4, "time-limit"]);
    assert.match(lead.log(), /Debugger listening/);
    await assertNothingLeft(run, lead);
  });

  test("waits for room when nothing can be recorded, and ends all the same when it is told to", async (t) => {
    const python = requirePython(t);
    if (python === undefined) return;
    const run = await runWithoutLmEval(python);
    // No file may grow beyond 1 KiB: what a full disk does, to this agent alone.
    const lead = await run.startLead({ ...hanging, before: "ulimit -f 1" });
    await until(() => lead.log().includes("Cannot write to the journal"));
    lead.signal("SIGTERM");
    const { exit, said } = await lead.end();
    assert.deepEqual([exit.code, said.reason, said.exit_code], [3, "failed", 3]);
    assert.match(said.message ?? "", /^Cannot write to the journal ".*": .*EFBIG/);
    assert.match(lead.log(), /Results are safe/);
    await assertNothingLeft(run, lead);
  });

  test("says in one line why it can't work, with the exit code of the error", async (t) => {
    const python = requirePython(t);
    if (python === undefined) return;
    const run = await runWithoutLmEval(python);
    const plan = planOf(run);
    const failing: [unknown, Record<string, string>, RegExp][] = [
      [plan, {}, /has other files than when the run was planned/],
      [plan, { FAKE_LM_EVAL: "0.4.11" }, /lm_eval 0\.4\.11 here, the run was planned with/],
      [plan, { FAKE_START_FAILS: "1" }, /Cannot start the harness: No module named 'lm_eval'/],
      [
        { ...plan, harness: { ...plan.harness, argv: ["/no/such/python"] } },
        {},
        /Cannot start "\/no\/such\/python", the run's Python/,
      ],
    ];
    for (const [changed, env, message] of failing) {
      await writeFile(run.layout.plan, JSON.stringify(changed));
      const lead = await run.startLead({ env });
      const { exit, said } = await lead.end();
      assert.deepEqual([exit.code, said.reason, said.exit_code], [3, "failed", 3]);
      assert.match(said.message ?? "", message);
      await assertNothingLeft(run, lead);
      const ended = (await run.events("agent.ended")).at(-1);
      assert.deepEqual([ended?.reason, ended?.message], ["failed", said.message]);
    }
    await writeFile(run.layout.plan, "{}");
    const { exit, said } = await (await run.startLead()).end();
    assert.deepEqual([exit.code, said.reason], [said.exit_code, "failed"]);
    assert.match(said.message ?? "", /schema_version/);
  });
});
