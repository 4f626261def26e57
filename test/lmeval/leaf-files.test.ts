import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { readdir, readFile, stat } from "node:fs/promises";
import { basename, join } from "node:path";
import { test } from "node:test";
import type { RunMessage } from "../../src/lmeval/harness.ts";
import { parseResultFile } from "../../src/lmeval/result-file.ts";
import {
  comparable,
  completionsEvaluation,
  type LeafResult,
  ofType,
  plugins,
  readResult,
  runBatch,
  startTestHarness,
} from "../support/evaluations.ts";
import {
  type BatchAnswer,
  describeOnBench,
  endsOf,
  openStation,
} from "../support/harness-bench.ts";
import { temporaryDirectory } from "../support/temporary.ts";

/** The leaf that a batch has finished; `n` for one of several. */
function doneOf({ messages }: Pick<BatchAnswer, "messages">, n = 0) {
  const done = ofType(messages, "leaf_done")[n];
  assert(done !== undefined, JSON.stringify(messages.at(-2)));
  return done;
}

interface OwnBlock {
  readonly fingerprint: string;
  readonly inputs: unknown;
  readonly samples: { file: string; size_bytes: number; sha256: string } | null;
}

const ownBlock = ({ result }: LeafResult) => result["eval_hive"] as OwnBlock;

/** Scores of a leaf file by metric, as src/lmeval/result-file.ts reads them. */
async function scoresIn(path: string, leaf: string): Promise<Record<string, number | null>> {
  const metrics = parseResultFile(await readFile(path, "utf8")).tasks.get(leaf)?.metrics ?? [];
  return Object.fromEntries(metrics.map(({ metric, score }) => [metric, score]));
}

describeOnBench("leaf files", {}, (bench) => {
  test("a leaf file is whole and in its place before the next leaf begins", async () => {
    const station = openStation(await bench.directory());
    const settings = await bench.settings(["ev_mc", "ev_wait"], { env: station.env });
    const messages: RunMessage[] = [];
    const run = bench.harness.run(settings, (message) => messages.push(message));
    await station.said("waiting");
    const { path, samples_path } = doneOf({ messages });
    const fp12 = settings.leaves[0]?.fingerprint.slice(4, 16);
    assert.deepEqual((await readdir(settings.output_dir)).toSorted(), [
      `results_ev_mc.${fp12}.json`,
      `samples_ev_mc.${fp12}.test-owner.jsonl`,
    ]);
    assert.equal(parseResultFile(await readFile(path, "utf8")).tasks.get("ev_mc")?.n_samples, 16n);
    assert.ok(existsSync(samples_path ?? ""));
    await station.letGo();
    assert.equal((await run.ended).exit_code, 0);
    assert.deepEqual(endsOf({ messages }), [
      ["ev_mc", "leaf_done"],
      ["ev_wait", "leaf_done"],
    ]);
  });

  test("samples reach the disk first, then the result under another name, then its name", async () => {
    const trace = join(await bench.directory(), "trace");
    const answer = await bench.run(["ev_mc"], {
      env: { EVAL_HIVE_PLUGINS: "trace_files", PYTHONPATH: plugins, EV_TRACE: trace },
    });
    const { path, samples_path } = doneOf(answer);
    const calls = (await readFile(trace, "utf8")).trimEnd().split("\n");
    const [samples, result, link, directory, ...more] = calls.map(
      (line) => JSON.parse(line) as string[],
    );
    assert.deepEqual(samples, ["fsync", samples_path]);
    const temporary = result?.[1] ?? "";
    assert.deepEqual(result, ["fsync", temporary]);
    assert.match(basename(temporary), /^\.results_ev_mc\..*\.tmp$/);
    assert.deepEqual(link, ["link", temporary, path]);
    assert.deepEqual(directory, ["fsync", join(path, "..")]);
    assert.deepEqual(more, []);
    assert.ok(!existsSync(temporary));
  });

  test("our own block says what was evaluated, by whom, and which samples belong to it", async () => {
    const record = { run: "a run", job: "7", node: "here", attempt: 2 };
    const answer = await bench.run(["ev_generate"], { record });
    const { path, samples_path } = doneOf(answer);
    const { fingerprint, inputs, samples, ...more } = ownBlock(await readResult(path));
    assert.deepEqual(more, record);
    assert.match(fingerprint, /^fp1:[0-9a-f]{64}$/);
    assert.deepEqual(Object.keys(inputs as object), ["task", "evaluation", "num_fewshot"]);
    const content = await readFile(samples_path ?? "");
    const sha256 = createHash("sha256").update(content).digest("hex");
    assert.deepEqual(samples, {
      file: basename(samples_path ?? ""),
      size_bytes: content.length,
      sha256,
    });
  });

  test("without log_samples no samples are kept, and the file says the same", async () => {
    const kept = doneOf(await bench.run(["ev_mc"]));
    const evaluation = completionsEvaluation({ lm_eval_args: { log_samples: false } });
    const answer = await bench.run(["ev_mc"], { evaluation });
    const { path, samples_path } = doneOf(answer);
    assert.equal(samples_path, null);
    assert.deepEqual(await readdir(join(path, "..")), [basename(path)]);
    const without = await readResult(path);
    assert.equal(ownBlock(without).samples, null);
    assert.deepEqual(comparable(without), comparable(await readResult(kept.path)));
    assert.match(
      (without.result["task_hashes"] as Record<string, string>)["ev_mc"] ?? "",
      /^[0-9a-f]{64}$/,
    );
  });

  test("scores that are not finite survive into the file and out of it", async () => {
    const { path } = doneOf(await bench.run(["ev_nan"]));
    assert.match(
      await readFile(path, "utf8"),
      /"nan_score,none": NaN,.*"inf_score,none": -Infinity/s,
    );
    assert.deepEqual(await scoresIn(path, "ev_nan"), {
      nan_score: Number.NaN,
      inf_score: Number.NEGATIVE_INFINITY,
    });
  });

  test("scores of numpy's types are numbers, whether lm_eval wrote them so or as text", async () => {
    const { path } = doneOf(await bench.run(["ev_numpy"]));
    const { single, all_right } = await scoresIn(path, "ev_numpy");
    assert.ok(typeof single === "number" && single < 0);
    // As text it has no more digits than tell one float32 from the next.
    assert.ok(Math.abs(Math.fround(single) / single - 1) < 2 ** -24);
    assert.equal(all_right, 0);
  });

  test("a leaf that has a leaf file is not evaluated again, whoever asks", async () => {
    const settings = await bench.settings(["ev_mc"]);
    const first = doneOf(await runBatch(bench.harness, settings));
    const before = await stat(first.path, { bigint: true });
    const again = await runBatch(bench.harness, { ...settings, owner: "another" });
    const { outcome, path, samples_path, n_requests } = doneOf(again);
    assert.deepEqual([outcome, path, samples_path, n_requests], ["existing", first.path, null, 0]);
    assert.equal((await stat(path, { bigint: true })).mtimeNs, before.mtimeNs);
    assert.equal((await readdir(settings.output_dir)).length, 2);
  });

  test("of two evaluations that meet while they write, one file stands and the other takes its samples back", async () => {
    await using home = await temporaryDirectory();
    await using other = await startTestHarness(bench.python, home.path);
    const station = openStation(await bench.directory());
    const settings = await bench.settings(["ev_meet"], {
      env: { ...station.env, EV_MEETING: "2" },
    });
    const answers = await Promise.all(
      [bench.harness, other].map((harness, n) =>
        runBatch(harness, { ...settings, owner: `owner-${n}` }),
      ),
    );
    const done = answers.map((answer) => doneOf(answer));
    assert.deepEqual(done.map(({ outcome }) => outcome).sort(), ["created", "existing"]);
    assert.equal(done[0]?.path, done[1]?.path);
    const winner = done.find(({ outcome }) => outcome === "created");
    const loser = done.find(({ outcome }) => outcome === "existing");
    assert.equal(loser?.samples_path, null);
    const samples = basename(winner?.samples_path ?? "");
    assert.deepEqual(
      (await readdir(settings.output_dir)).toSorted(),
      [basename(winner?.path ?? ""), samples].toSorted(),
    );
    assert.equal(ownBlock(await readResult(winner?.path ?? "")).samples?.file, samples);
  });
});
