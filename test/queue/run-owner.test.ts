import assert from "node:assert/strict";
import { mkdir, readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { type ChildGroup, startGroup } from "../../src/base/spawn.ts";
import {
  identifyThisProcess,
  type OwnerRecord,
  renderOwnerRecord,
} from "../../src/queue/owner-record.ts";
import { holdRun, RunHeldError } from "../../src/queue/run-owner.ts";
import { RunLayout } from "../../src/run/layout.ts";
import { ManualClock } from "../support/manual-clock.ts";
import { isLong } from "../support/require.ts";
import { temporaryDirectory } from "../support/temporary.ts";
import { until } from "../support/until.ts";

async function place() {
  const directory = await temporaryDirectory();
  const layout = new RunLayout(directory.path);
  return { layout, [Symbol.asyncDispose]: () => directory[Symbol.asyncDispose]() };
}

async function writeHolder(
  layout: RunLayout,
  record: Partial<OwnerRecord>,
  number = 1,
): Promise<void> {
  const me = await identifyThisProcess("other-run");
  await mkdir(layout.runOwners, { recursive: true });
  const whole: OwnerRecord = { ...me, state: "live", beat: 0, ...record };
  await writeFile(join(layout.runOwners, String(number)), renderOwnerRecord(whole));
}

interface Child extends AsyncDisposable {
  readonly group: ChildGroup;
  readonly said: Promise<string>;
}

async function startChild(layout: RunLayout, owner: string, killAt?: number): Promise<Child> {
  const preload =
    killAt === undefined ? [] : ["--import", join(import.meta.dirname, "interrupt-calls.ts")];
  const program = join(import.meta.dirname, "run-owner-child.ts");
  const group = await startGroup(process.execPath, [...preload, program, layout.directory, owner], {
    env: { ...process.env, EH_KILL_AT: String(killAt ?? 0) },
    stdin: "pipe",
    stdout: "pipe",
  });
  const said = new Promise<string>((resolve) => {
    group.stdout?.once("data", (data) => resolve(String(data).trim()));
    group.stdout?.once("end", () => resolve(""));
  });
  return { group, said, [Symbol.asyncDispose]: () => group[Symbol.asyncDispose]() };
}

test("a second run on a directory is refused with host and pid, and let in when the first has ended", async () => {
  await using at = await place();
  await using first = await startChild(at.layout, "first");
  assert.equal(await first.said, "held");
  const identity = await identifyThisProcess("second");
  await assert.rejects(holdRun(at.layout, { identity }), (error) => {
    assert.ok(error instanceof RunHeldError);
    assert.deepEqual([error.host, error.pid], [identity.host, first.group.pid]);
    assert.match(error.message, new RegExp(`process ${first.group.pid} on host`));
    return true;
  });
  await assert.rejects(holdRun(at.layout, { identity, takeOver: true }), RunHeldError);
  first.group.stdin?.end();
  await first.group.exited;
  await using _second = await holdRun(at.layout, { identity });
  assert.deepEqual(await readdir(at.layout.runOwners), ["2"]);
});

test("the next run is let in at once when the first was killed, and ends what it had started", async () => {
  await using at = await place();
  await using first = await startChild(at.layout, "killed-run");
  await first.said;
  const server = await startGroup("sleep", ["1000"], {
    env: { ...process.env, EH_OWNER: "killed-run" },
  });
  first.group.signal("SIGKILL");
  await first.group.exited;
  await using _next = await holdRun(at.layout, { identity: await identifyThisProcess("next") });
  assert.equal((await server.exited).signal, "SIGKILL");
});

test("of several that find the same dead holder one gets in", async () => {
  await using at = await place();
  await writeHolder(at.layout, { pid: 2 ** 22 + 1, start_time: "1" });
  const owners = ["a", "b", "c", "d"];
  const children = await Promise.all(owners.map((owner) => startChild(at.layout, owner)));
  try {
    const said = await Promise.all(children.map((child) => child.said));
    assert.deepEqual(said.sort(), ["held", "run.held", "run.held", "run.held"]);
  } finally {
    for (const child of children) await child[Symbol.asyncDispose]();
  }
});

test("a silent holder on another machine is taken over after 900 s, if asked for", async () => {
  await using at = await place();
  await writeHolder(at.layout, { host: "elsewhere" });
  const clock = new ManualClock();
  const identity = await identifyThisProcess("here");
  await assert.rejects(holdRun(at.layout, { identity, clock }), RunHeldError);
  const held = holdRun(at.layout, { identity, clock, takeOver: true });
  let waitedMs = 0;
  for (; waitedMs < 900_000; waitedMs += 15_000) {
    await until(() => clock.sleepers === 1);
    clock.advance(15_000);
  }
  await using _hold = await held;
});

test("a holder on another machine that moves is not taken over", async () => {
  await using at = await place();
  await writeHolder(at.layout, { host: "elsewhere" });
  const clock = new ManualClock();
  const identity = await identifyThisProcess("here");
  const held = holdRun(at.layout, { identity, clock, takeOver: true });
  const refused = assert.rejects(held, RunHeldError);
  await until(() => clock.sleepers === 1);
  await writeHolder(at.layout, { host: "elsewhere", beat: 1 });
  clock.advance(15_000);
  await refused;
});

test("a number that was used and removed meanwhile lets nobody in beside the holder", async () => {
  await using at = await place();
  await writeHolder(at.layout, { host: "elsewhere" });
  const clock = new ManualClock();
  const identity = await identifyThisProcess("here");
  const held = holdRun(at.layout, { identity, clock, takeOver: true });
  const refused = assert.rejects(held, RunHeldError);
  await until(() => clock.sleepers === 1);
  // Others have taken over from 1, then from 2; the listing that was waited on is old.
  await writeHolder(at.layout, {}, 3);
  for (let waitedMs = 0; waitedMs < 900_000; waitedMs += 15_000) {
    await until(() => clock.sleepers === 1);
    clock.advance(15_000);
  }
  await refused;
  assert.deepEqual((await readdir(at.layout.runOwners)).sort(), ["1", "3"]);
});

test("a run killed at any step of getting in or out keeps nobody out, and leaves one file", async () => {
  const stride = isLong ? 1 : 5;
  const atOnce = 4;
  let step = 1 + Math.floor(Math.random() * stride);
  for (let killed = true; killed; step += atOnce * stride) {
    const steps = Array.from({ length: atOnce }, (_, n) => step + n * stride);
    killed = (await Promise.all(steps.map(killAndHold))).includes(true);
  }
});

/** @returns false when the child had fewer steps. */
async function killAndHold(killAt: number): Promise<boolean> {
  await using at = await place();
  await writeHolder(at.layout, { pid: 2 ** 22 + 1, start_time: "1" });
  const owner = `killed-at-${killAt}`;
  await using child = await startChild(at.layout, owner, killAt);
  if ((await child.said) === "held") child.group.stdin?.end();
  const killed = (await child.group.exited).signal === "SIGKILL";
  const next = await holdRun(at.layout, { identity: await identifyThisProcess("next") });
  await next[Symbol.asyncDispose]();
  assert.equal((await readdir(at.layout.runOwners)).length, 1, `killed at step ${killAt}`);
  return killed;
}
