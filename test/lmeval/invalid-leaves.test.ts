import assert from "node:assert/strict";
import { readdir, readFile, stat } from "node:fs/promises";
import { basename, join } from "node:path";
import { test } from "node:test";
import { completionsEvaluation, ofType, runBatch } from "../support/evaluations.ts";
import { type BatchAnswer, describeOnBench, endsOf } from "../support/harness-bench.ts";
import { writeByteTokenizer } from "../support/tokenizer.ts";

function invalidOf({ messages }: Pick<BatchAnswer, "messages">) {
  const [invalid] = ofType(messages, "leaf_invalid");
  assert(invalid !== undefined, JSON.stringify(messages.at(-2)));
  return invalid;
}

describeOnBench("leaves that are evaluated and can't be trusted", {}, (bench) => {
  for (const leaf of ["ev_generate", "ev_mc"]) {
    test(`predict_only yields no scores of ${leaf}`, async () => {
      const evaluation = completionsEvaluation({ lm_eval_args: { predict_only: true } });
      const answer = await bench.run([leaf], { evaluation });
      const { path, reason } = invalidOf(answer);
      assert.match(reason, /^predict_only/);
      const [invalid, samples, ...more] = (await readdir(join(path, ".."))).toSorted();
      assert.deepEqual([invalid, more], [basename(path), []]);
      assert.match(basename(path), new RegExp(`^invalid_${leaf}\\.[0-9a-f]{12}\\.json$`));
      const file = JSON.parse(await readFile(path, "utf8")) as Record<string, unknown>;
      const own = file["eval_hive"] as { invalid: string; samples: { file: string } };
      assert.deepEqual([own.invalid, own.samples.file], [reason, samples]);
    });
  }

  test("a task without any metric", async () => {
    const { reason } = invalidOf(await bench.run(["ev_no_metric"]));
    assert.equal(reason, "lm_eval gave no metric");
  });

  test("answers that the tokenizer merges into the prompt are counted", async () => {
    const merging = join(await bench.directory(), "tokenizer");
    await writeByteTokenizer(merging, { merges: [[":", "1"]] });
    const leaves = ["ev_digit", "ev_mc", "ev_rolling", "ev_generate"];
    const answer = await bench.run(leaves, { env: { EH_MODEL_PATH: merging } });
    assert.deepEqual(endsOf(answer), [
      ["ev_digit", "leaf_invalid"],
      ["ev_mc", "leaf_done"],
      ["ev_rolling", "leaf_done"],
      ["ev_generate", "leaf_done"],
    ]);
    const { reason } = invalidOf(answer);
    assert.match(reason, /^16 of 64 answers have no token of their own/);
    assert.deepEqual(endsOf(await bench.run(["ev_digit"])), [["ev_digit", "leaf_done"]]);
  });

  test("an invalid leaf is not evaluated again, and says why again", async () => {
    const settings = await bench.settings(["ev_no_metric"]);
    const first = invalidOf(await runBatch(bench.harness, settings));
    const before = await stat(first.path, { bigint: true });
    const again = await runBatch(bench.harness, settings);
    const { path, reason } = invalidOf(again);
    assert.deepEqual([path, reason], [first.path, first.reason]);
    assert.deepEqual(ofType(again.messages, "leaf_started"), []);
    assert.equal((await stat(path, { bigint: true })).mtimeNs, before.mtimeNs);
  });
});
