import assert from "node:assert/strict";
import { dirname } from "node:path";
import { test } from "node:test";
import { Reaper } from "../../src/agent/reaper.ts";
import { workUnit } from "../../src/agent/unit.ts";
import { systemClock } from "../../src/base/clock.ts";
import { ensureDirectory } from "../../src/base/files.ts";
import { processStartTime } from "../../src/base/proc.ts";
import { startGroup } from "../../src/base/spawn.ts";
import type { EventSink } from "../../src/events/event.ts";
import { openFsQueue } from "../../src/queue/fs-queue.ts";
import { createRecord } from "../../src/queue/heartbeat.ts";
import { identifyThisProcess, type OwnerIdentity } from "../../src/queue/owner-record.ts";
import { type OwnerId, shardId } from "../../src/run/ids.ts";
import type { ManifestEntry } from "../../src/run/manifest.ts";
import type { PlannedUnit } from "../../src/run/plan.ts";
import { makeSyntheticRun } from "../support/synthetic-run.ts";
import { temporaryDirectory } from "../support/temporary.ts";

/** An owner on this machine whose process has ended. */
async function deadIdentity(owner: OwnerId): Promise<OwnerIdentity> {
  const group = await startGroup("true", [], { env: {} });
  await group.exited;
  return { ...(await identifyThisProcess(owner)), pid: group.pid, start_time: "1" };
}

test("what dead owners have left is ended, their batches come back, and the living keep theirs", async () => {
  await using directory = await temporaryDirectory();
  const run = await makeSyntheticRun({ directory: directory.path, units: 1, leaves: 3 });
  const { layout, plan, manifest } = run;
  const planned = plan.units[0] as PlannedUnit;
  const entry = manifest.get(planned.id) as ManifestEntry;
  const unit = workUnit(layout, plan, planned, entry, new Map());
  const shard = shardId(planned.id, 0);
  const [dead, live] = [`dead-${process.pid}`, `live-${process.pid}`] as OwnerId[];
  await using queue = await openFsQueue({ layout });
  for (const owner of [dead, live]) {
    assert.ok(owner !== undefined);
    await ensureDirectory(dirname(layout.heartbeat(owner)));
    await queue.claim(shard, owner);
  }
  await createRecord(layout.heartbeat(dead as OwnerId), await deadIdentity(dead as OwnerId));
  await createRecord(layout.heartbeat(live as OwnerId), await identifyThisProcess(live as string));
  const start = (owner: string | undefined) =>
    startGroup("sleep", ["1000"], { env: { PATH: process.env["PATH"], EH_OWNER: owner } });
  await using remains = await start(dead);
  await using working = await start(live);

  const told: unknown[] = [];
  const events: EventSink = {
    publish: async (type, subject, body) => {
      told.push([type, subject.unit, body]);
    },
  };
  const self = await identifyThisProcess(`self-${process.pid}`);
  const reaper = new Reaper(layout, self, events, systemClock);
  assert.equal(reaper.isGone(dead as string), false);
  await reaper.clearRemains();
  assert.equal((await remains.exited).signal, "SIGKILL");
  assert.notEqual(await processStartTime(working.pid), undefined);
  assert.deepEqual(
    [dead, live, self.owner].map((owner) => reaper.isGone(owner as string)),
    // Of itself only what its own dead children have left can be there.
    [true, false, true],
  );

  // Slots that ask at the same time share one look.
  const looks = await Promise.all([reaper.reap(queue, unit), reaper.reap(queue, unit)]);
  assert.deepEqual(looks, [true, true]);
  assert.deepEqual(told, [["batch.reclaimed", planned.id, { owner: dead }]]);
  assert.equal(await reaper.reap(queue, unit), false);
  const states = [...(await queue.census(shard)).batches.values()];
  assert.deepEqual(states.map(({ kind, attempt }) => `${kind} a${attempt}`).sort(), [
    "owned a1",
    "ready a1",
    "ready a2",
  ]);
});
