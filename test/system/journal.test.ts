import assert from "node:assert/strict";
import { access, mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { sendSignal } from "../../src/base/proc.ts";
import { callIn, evalHive, startEvalHive } from "../support/eval-hive.ts";
import { type ProcessRole, processesOfRun } from "../support/processes.ts";
import { isLong, requirePython } from "../support/require.ts";
import { readScores, scoresOfModel } from "../support/scores.ts";
import { makeSmallPlace } from "../support/small-run.ts";
import { until } from "../support/until.ts";

const documents = isLong ? 400 : 100;
/** In this order, at equal distances: the first when half of the leaf is done, or the only one is. */
const victims: readonly ProcessRole[] = isLong
  ? ["harness parent", "balancer", "agent", "harness parent", "agent"]
  : ["harness parent"];
const numConcurrent = 4;

/** One leaf with four requests per document, which all differ. */
const longTask = {
  "long.yaml":
    "include: _mc_base\ntask: long\ndataset_kwargs: {data_files: {test: data/long.jsonl}}\n",
  "data/long.jsonl": Array.from({ length: documents }, (_, n) =>
    JSON.stringify({
      q: `What follows the number ${n}?`,
      choices: [`${n + 1}`, `${n + 2}`, `${n + 3}`, `${n + 4}`],
      label: n % 4,
    }),
  ).join("\n"),
};

test(`after SIGKILL of ${victims.join(", ")} in mid-leaf no more than 5 % of the answered requests are asked again, and the scores are those of a leaf in peace`, {
  timeout: 600_000,
}, async (t) => {
  const python = requirePython(t);
  if (python === undefined) return;
  // Equal models: the second is evaluated in peace, and has the scores that the first should have.
  await using place = await makeSmallPlace({
    suites: ["long"],
    taskFiles: longTask,
    units: 2,
    slots: 1,
    serverFlags: `--delay-ms 20 --request-log "$EH_TEST_RUN/requests-$EH_MODEL_KEY"`,
    config: { eval: { model_args: { num_concurrent: numConcurrent } } },
  });
  const call = callIn(place, python);
  const { layout } = place;
  const asked = async (unit: number): Promise<string[]> => {
    const text = await readFile(join(place.root, `requests-small-${unit}`), "utf8").catch(() => "");
    const lines = text.split("\n").slice(0, -1);
    return lines.map((line) => JSON.stringify((JSON.parse(line) as { prompt: unknown }).prompt));
  };
  await using run = await startEvalHive(["run", place.configFile, "-o", layout.directory], call);
  const all = 4 * documents;
  let answered = 0;
  for (const [n, role] of victims.entries()) {
    const enough = (all * (n + 1)) / (victims.length + 1);
    const different = await until(
      async () => {
        const { size } = new Set(await asked(0));
        return size >= enough ? size : undefined;
      },
      { timeoutMs: 180_000, what: `${enough} requests are asked before the ${role} is killed` },
    );
    const [victim] = (await processesOfRun(place.root)).filter((one) => one.role === role);
    assert.ok(victim !== undefined, role);
    // In mid-leaf, and nobody goes on before the process is gone.
    await place.hold();
    sendSignal(victim.pid, "SIGKILL");
    await until(
      async () => !(await processesOfRun(place.root)).some(({ pid }) => pid === victim.pid),
    );
    await place.letGo();
    answered += different - numConcurrent;
  }
  assert.deepEqual(await run.ended, { code: 0, signal: undefined }, run.stderr());

  const requests = await asked(0);
  assert.equal(new Set(requests).size, all);
  const again = requests.length - all;
  // Those that were in flight were not answered; an answer may also be on its way to the disk.
  const allowed = victims.length * numConcurrent + 0.05 * answered;
  assert.ok(again <= allowed, `${again} of ${answered} answered requests were asked again`);
  assert.equal((await asked(1)).length, all);

  const [disturbed, peaceful] = await place.events("leaf.done");
  // Who does without the balancer for a moment goes on in the same evaluation.
  const evaluations = victims.filter((role) => role !== "balancer").length;
  const replayed = disturbed?.served?.replayed ?? 0;
  assert.ok(replayed > 0.9 * (all / (victims.length + 1)), `${replayed} were replayed`);
  assert.equal(peaceful?.served?.replayed, 0);
  assert.equal((await place.events("leaf.started")).length, evaluations + 2);
  assert.deepEqual(await place.events("journal.off"), []);

  await assert.rejects(access(layout.journals), "nothing is left of the journals");
  // As an agent leaves it that is killed between the result of its last leaf and its journal.
  const left = join(layout.journals, "small-0--main");
  await mkdir(left, { recursive: true });
  await writeFile(join(left, `long.${"0".repeat(12)}.local-0-r1.0`), "");
  const later = await evalHive(["run", layout.directory], call);
  assert.equal(later.code, 0, later.stderr);
  await assert.rejects(access(layout.journals));

  const collected = await evalHive(["collect", layout.directory], call);
  assert.equal(collected.code, 0, collected.stderr);
  const rows = await readScores(layout.scores);
  const scores = scoresOfModel(rows, "small-1");
  assert.ok(scores.size > 0);
  assert.deepEqual(scoresOfModel(rows, "small-0"), scores);
});
