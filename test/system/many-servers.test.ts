import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { openRandom } from "../../examples/demo/random.ts";
import { sendSignal } from "../../src/base/proc.ts";
import { callIn, evalHive, startEvalHive } from "../support/eval-hive.ts";
import { processesOfRun } from "../support/processes.ts";
import { isLong, requirePython } from "../support/require.ts";
import { readScores, scoresOfModel } from "../support/scores.ts";
import { makeSmallPlace } from "../support/small-run.ts";
import { until } from "../support/until.ts";

const seed = 20261126;
const servers = 4;
const kills = isLong ? 12 : 3;
const leaves = isLong ? 240 : 16;

test(`${servers} servers of which one is killed ${kills} times: no leaf fails, scores are those of a unit in peace, each server is back`, {
  timeout: 900_000,
}, async (t) => {
  const python = requirePython(t);
  if (python === undefined) return;
  // Equal models: the second is evaluated in peace, and has the scores that the first should have.
  await using place = await makeSmallPlace({
    leaves,
    units: 2,
    slots: 4,
    serverFlags: "--delay-ms 50",
    config: { num_inference_servers: servers },
  });
  const call = callIn(place, python);
  const { layout } = place;
  await using run = await startEvalHive(["run", place.configFile, "-o", layout.directory], call);
  const ofFirst = async (type: "server.healthy") =>
    (await place.events(type)).filter(({ unit }) => unit === "small-0--main");
  const random = openRandom(seed);
  await until(async () => (await ofFirst("server.healthy")).length === servers, {
    timeoutMs: 180_000,
    what: "all servers are there",
  });
  for (let kill = 1; kill <= kills; kill++) {
    const done = Math.floor(((kill - 1) * leaves) / kills);
    await until(async () => (await place.leafFiles()).length >= done, {
      timeoutMs: 180_000,
      what: `before kill ${kill}, ${done} leaves are done`,
    });
    // With requests at hand, and the unit does not end before the server is back.
    await place.hold();
    const alive = (await processesOfRun(place.root)).filter(({ role }) => role === "server");
    sendSignal(random.pick(alive).pid, "SIGKILL");
    await until(async () => (await ofFirst("server.healthy")).length === servers + kill, {
      timeoutMs: 180_000,
      what: `after kill ${kill}, the server is back`,
    });
    await place.letGo();
  }
  assert.deepEqual(await run.ended, { code: 0, signal: undefined }, run.stderr());
  assert.deepEqual(await processesOfRun(place.root), []);

  const healthy = await ofFirst("server.healthy");
  assert.deepEqual(new Set(healthy.map(({ server }) => server)), new Set([0, 1, 2, 3]));
  assert.deepEqual(await place.events("leaf.failed"), []);
  const started = (await place.events("leaf.started")).map(({ unit, leaf }) => `${unit} ${leaf}`);
  assert.equal(new Set(started).size, 2 * leaves);
  const collected = await evalHive(["collect", layout.directory], call);
  assert.equal(collected.code, 0, collected.stderr + collected.stdout);
  const rows = await readScores(join(layout.directory, "scores.parquet"));
  const peaceful = scoresOfModel(rows, "small-1");
  assert.ok(peaceful.size >= leaves);
  assert.deepEqual(scoresOfModel(rows, "small-0"), peaceful);
});
