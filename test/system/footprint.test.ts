import assert from "node:assert/strict";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { runToEnd } from "../../src/base/spawn.ts";
import type { ShardId } from "../../src/run/ids.ts";
import { RunLayout } from "../../src/run/layout.ts";
import { readPlan } from "../../src/run/plan-file.ts";
import { batchesOf } from "../contract/queue-child.ts";
import { fsBackend } from "../queue/fs-backend.ts";
import { callIn, evalHive } from "../support/eval-hive.ts";
import { requirePython, root } from "../support/require.ts";
import { makeSmallPlace, smallUnit } from "../support/small-run.ts";
import {
  parseTrace,
  requireStrace,
  type StoringCall,
  storingCalls,
  straceCommand,
  type TracedCall,
} from "../support/strace.ts";
import { temporaryDirectory } from "../support/temporary.ts";

const everything = { calls: Object.keys(storingCalls) as StoringCall[] };

/** Calls of a kind that succeeded on something below a directory; of `list`, each scan to its end counts once. */
function count(calls: readonly TracedCall[], call: StoringCall, below: string): number {
  const done = call === "list" ? /^0$/ : /^\d/;
  return calls.filter(
    (one) =>
      one.call === call &&
      done.test(one.result ?? "") &&
      one.paths.some((path) => path === below || path.startsWith(`${below}/`)),
  ).length;
}

/** Fails at the first try of each unit. */
const failsOnce = {
  "fails_once.yaml":
    "include: _mc_base\ntask: fails_once\nprocess_docs: !function fails_once.fail_once\n",
  "fails_once.py": `import os


def fail_once(dataset):
    mark = os.path.join(os.environ["EH_TEST_RUN"], "failed-" + os.environ["EH_TASK_KEY"])
    if not os.path.exists(mark):
        open(mark, "w").close()
        raise ValueError("the first time")
    return dataset
`,
};

test("a leaf costs two creates, a link and three fsyncs, a batch two renames, and a finished unit few inodes", async (t) => {
  const python = requirePython(t);
  if (python === undefined || !requireStrace(t)) return;
  const units = 2;
  const [small, leaves] = [8, 10];
  await using place = await makeSmallPlace({
    leaves: small,
    suites: ["fails_once", "ev_crash"],
    units,
    slots: 2,
    taskFiles: failsOnce,
  });
  const call = callIn(place, python);
  const { layout, results } = place;
  const planned = await evalHive(
    ["create-run", "-c", place.configFile, "-o", layout.directory],
    call,
  );
  assert.equal(planned.code, 0, planned.stderr);
  const { harness } = await readPlan(layout);
  const log = join(place.root, "strace.log");
  const [strace = "", ...args] = straceCommand(log, everything);
  const lead = [join(harness.store, "agent.mjs"), "lead", "--run", layout.directory];
  const done = await runToEnd(strace, [...args, process.execPath, ...lead], call);
  assert.equal(done.code, 4, done.stderr);
  const calls = parseTrace(await readFile(log, "utf8"));
  const written = units * (leaves - 1);
  assert.equal((await place.leafFiles()).length, written);

  await t.test("calls per leaf under output_path, samples on", () => {
    const perLeaf = (call: StoringCall) => count(calls, call, results) / written;
    assert.deepEqual(
      { create: perLeaf("create"), link: perLeaf("link"), rename: perLeaf("rename") },
      { create: 2, link: 1, rename: 0 },
    );
    assert.ok(perLeaf("fsync") <= 4, `${perLeaf("fsync")} fsyncs`);
  });

  await t.test("renames per batch in the queue", async () => {
    const leases = (await place.events("batch.leased")).length;
    // A shard is opened by one.
    assert.ok(count(calls, "rename", layout.queue) <= 2 * leases + units);
    t.diagnostic(
      `${count(calls, "list", layout.allStrikes)} listings of strikes in ${leases} leases`,
    );
  });

  await t.test(
    "inodes of a finished unit: entries and strikes folded, logs and events few",
    async () => {
      const all = (await readdir(layout.directory, { recursive: true })) as string[];
      const ofUnit = all.filter((path) => path.includes(smallUnit(0)));
      assert.ok(ofUnit.length <= 20, ofUnit.join("\n"));
      // A strike of fails_once, and three of ev_crash: in one file.
      assert.deepEqual(await readdir(layout.strikes(smallUnit(0))), ["folded.1.json"]);
      const ofAny = all.filter((path) => !path.includes("small-"));
      assert.ok(ofAny.length <= 30, ofAny.join("\n"));
    },
  );
});

test("a batch costs two renames and less than a tenth of a listing, in a shard as long as they get", async (t) => {
  if (!requireStrace(t)) return;
  await using place = await fsBackend.place();
  await using directory = await temporaryDirectory();
  const shard = "model--main.g0" as ShardId;
  const batches = 256;
  {
    await using queue = await place.open();
    await queue.publish(shard, batchesOf(Array.from({ length: batches }, (_, n) => `b${n}`)));
  }
  const log = join(directory.path, "strace.log");
  const [strace = "", ...args] = straceCommand(log, everything);
  const input = JSON.stringify({ owner: "owner", shards: [shard] });
  const child = join(root, "test/contract/queue-child.ts");
  const words = [process.execPath, child, fsBackend.module, place.address, "drain", input];
  const done = await runToEnd(strace, [...args, ...words], { env: process.env });
  assert.equal(done.code, 0, done.stderr);
  const calls = parseTrace(await readFile(log, "utf8"));
  const { queue } = new RunLayout(place.address);
  assert.equal(count(calls, "rename", queue), 2 * batches + 1);
  const listings = count(calls, "list", queue);
  assert.ok(listings <= batches / 10, `${listings} listings`);
  t.diagnostic(`${listings} listings of ${batches} batches`);
});
