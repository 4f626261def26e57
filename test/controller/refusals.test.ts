import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { refuseLeaves, refuseUnknownTasks } from "../../src/controller/refusals.ts";
import type { Leaf } from "../../src/lmeval/task-tree.ts";

const generation = leaf("gsm", { output_type: "generate_until", max_gen_toks: 512 });
const scored = leaf("arc", { output_type: "multiple_choice" });
const code = leaf("humaneval", {
  output_type: "generate_until",
  unsafe_code: true,
  max_gen_toks: 10,
});

function leaf(name: string, parts: Partial<Leaf>): Leaf {
  return { id: name, name, max_gen_toks: null, unsafe_code: false, ...parts } as Leaf;
}

function kinds(
  leaves: readonly Leaf[],
  model_args: Record<string, unknown>,
  lm_eval_args: Record<string, unknown> = {},
): string[] {
  return refuseLeaves(leaves, { model_args, lm_eval_args }).map(({ kind }) => kind);
}

describe("refuseLeaves", () => {
  test("refuses a generation that would cut the whole prompt, and names it", () => {
    const [refusal] = refuseLeaves([scored, generation], {
      model_args: { max_length: 512 },
      lm_eval_args: {},
    });
    assert.equal(refusal?.kind, "generation-too-long");
    assert.match(refusal.message, /512: gsm$/);
    assert.deepEqual(kinds([generation], { max_length: 514 }), []);
    assert.deepEqual(kinds([generation], {}), []);
  });

  test("takes max_gen_toks from gen_kwargs in any of its forms, then the task, then lm_eval's default", () => {
    const args = { max_length: 300 };
    const short = [
      { gen_kwargs: "max_gen_toks=20,temperature=0" },
      { gen_kwargs: { max_gen_toks: 20 } },
      { gen_kwargs: '{"max_gen_toks": 20}' },
    ];
    for (const lm_eval_args of short) assert.deepEqual(kinds([generation], args, lm_eval_args), []);
    const unset = leaf("t", { output_type: "generate_until" });
    assert.deepEqual(kinds([unset], { max_length: 257 }), ["generation-too-long"]);
    assert.deepEqual(kinds([unset], { max_length: 257, max_gen_toks: 20 }), []);
  });

  test("runs code that a model wrote only with consent", () => {
    assert.deepEqual(kinds([code], {}), ["unsafe-code"]);
    assert.deepEqual(kinds([code], {}, { confirm_run_unsafe_code: true }), []);
  });

  test("refuses log-likelihoods on a chat endpoint", () => {
    const chat = { model: "local-chat-completions" };
    assert.deepEqual(kinds([scored, generation], {}, chat), ["no-loglikelihood"]);
    assert.deepEqual(kinds([generation], {}, chat), []);
    assert.deepEqual(kinds([scored], {}, { model: "local-completions" }), []);
  });
});

test("an unknown task is named with the nearest that exist", () => {
  const [refusal] = refuseUnknownTasks([{ name: "arc_eazy", near: ["arc_easy"] }]);
  assert.match(refusal?.message ?? "", /"arc_eazy"/);
  assert.match(refusal?.hint ?? "", /"arc_easy"/);
});
