import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { WorkUnit } from "../../src/agent/unit.ts";
import { howToAsk } from "../../src/agent/unit-servers.ts";

function unitWith(
  modelArgs: Record<string, unknown>,
  outputTypes: readonly (string | null)[],
  model = "local-completions",
): WorkUnit {
  const leaves = outputTypes.map((output_type, n) => [`leaf${n}`, { output_type }]);
  const fingerprints = leaves.map(([leaf]) => [leaf, "fp1:0"]);
  return {
    profile: {
      model_args: { base_url: "http://localhost:${EH_PORT}/v1/completions", ...modelArgs },
      lm_eval_args: { model },
      fingerprints: Object.fromEntries(fingerprints),
    },
    plan: { leaves: Object.fromEntries(leaves) },
  } as unknown as WorkUnit;
}

const env = { EH_MODEL_KEY: "one" };

describe("the servers of a unit", () => {
  test("have to score when one of its leaves is scored by log-likelihoods", () => {
    for (const scored of ["loglikelihood", "loglikelihood_rolling", "multiple_choice"]) {
      assert.deepEqual(howToAsk(unitWith({}, ["generate_until", scored]), env), {
        path: "/v1/completions",
        kind: "completions",
        echo: "tokens",
        headers: null,
      });
    }
    assert.equal(howToAsk(unitWith({}, ["generate_until", null]), env)?.echo, null);
  });

  test("are asked as lm_eval will ask them: prompts as text, fields of its own, a query", () => {
    const unit = unitWith(
      {
        base_url: "http://127.0.0.1:$EH_PORT/v1/completions?of=${EH_MODEL_KEY}",
        tokenized_requests: "False",
        header: { "x-model": "${EH_MODEL_KEY}" },
      },
      ["loglikelihood"],
    );
    assert.deepEqual(howToAsk(unit, env), {
      path: "/v1/completions?of=one",
      kind: "completions",
      echo: "text",
      headers: { "x-model": "one" },
    });
  });

  test("never score chats", () => {
    const unit = unitWith({}, ["multiple_choice"], "local-chat-completions");
    assert.deepEqual([howToAsk(unit, env)?.kind, howToAsk(unit, env)?.echo], ["chat", null]);
  });

  test("are asked nothing where nobody knows how requests look, or they go elsewhere", () => {
    const elsewhere = unitWith({ base_url: "http://api.example/v1/completions" }, []);
    const unknown = { base_url: "http://localhost:${EH_PORT}/${PLACE}/completions" };
    assert.equal(howToAsk(unitWith(unknown, ["loglikelihood"]), env), undefined);
    assert.equal(howToAsk(elsewhere, env), undefined);
    assert.equal(howToAsk(unitWith({ base_url: null }, ["loglikelihood"]), env), undefined);
    assert.equal(howToAsk(unitWith({}, ["loglikelihood"], "my-own-model"), env), undefined);
  });
});
