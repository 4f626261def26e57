import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { differenceOf, echoPrompts, echoRequest, judgeEcho } from "../../src/agent/echo.ts";

const { probe, other } = echoPrompts;
const n = probe.tokens.length;

/** As vLLM answers: the first token has none, and the generated one comes last. */
function answerOf(tokenLogprobs: unknown = [null, ...Array(n - 1).fill(-1.5), -0.1]): string {
  const top = Array.isArray(tokenLogprobs)
    ? tokenLogprobs.map((value) => (value === null ? null : { a: value ?? 0, b: -0.5 }))
    : null;
  const logprobs = { token_logprobs: tokenLogprobs, top_logprobs: top };
  return JSON.stringify({ choices: [{ index: 0, text: "", logprobs }] });
}

describe("the probe", () => {
  test("asks as lm_eval asks for log-likelihoods, with ids that every vocabulary has", () => {
    assert.deepEqual(JSON.parse(echoRequest(probe, "tokens", "/models/one")), {
      model: "/models/one",
      prompt: [probe.tokens],
      temperature: 0,
      max_tokens: 1,
      logprobs: 1,
      seed: 1234,
      echo: true,
    });
    assert.deepEqual(JSON.parse(echoRequest(probe, "text", undefined)).prompt, [probe.text]);
    assert.ok(probe.tokens.every((id) => id > 0 && id < 94));
  });

  test("is asked twice with something in between that begins alike and goes on otherwise", () => {
    assert.deepEqual(other.tokens.slice(0, 10), probe.tokens.slice(0, 10));
    assert.notDeepEqual(other.tokens, probe.tokens);
  });
});

describe("an answer to the probe", () => {
  test("is a number for each token but the first, before the one that was generated", () => {
    assert.deepEqual(judgeEcho(probe, "tokens", answerOf()), {
      kind: "scored",
      logprobs: Array(n - 1).fill(-1.5),
    });
  });

  test("to a text has as many as the server says that it has tokens, or any number of them", () => {
    const body = JSON.parse(answerOf([null, -1, -2, -3]));
    assert.equal(judgeEcho(probe, "text", JSON.stringify(body)).kind, "scored");
    body.usage = { prompt_tokens: 3 };
    assert.equal(judgeEcho(probe, "text", JSON.stringify(body)).kind, "scored");
    body.usage = { prompt_tokens: 4 };
    assert.equal(judgeEcho(probe, "text", JSON.stringify(body)).kind, "useless");
  });

  const withoutTop = JSON.stringify({
    choices: [{ logprobs: { token_logprobs: [null, ...Array(n).fill(-1)], top_logprobs: null } }],
  });
  const inside = Array(n - 1).fill(-1);
  for (const [title, body, reason] of [
    ["that is no JSON", "<html>", /no JSON/],
    ["that is null", "null", /no choices/],
    ["without choices", '{"error":"x"}', /no choices/],
    ["without log-probabilities", '{"choices":[{"text":"","logprobs":null}]}', /not there/],
    ["of another kind", answerOf({ a: 1 }), /not there/],
    ["with that of the generated token alone", answerOf([-0.1]), /^it gives 1 .*ignore echo$/],
    ["that is one short", answerOf([null, ...inside]), /^it gives \d+ log-probabilities for \d+ t/],
    ["of nulls", answerOf(Array(n + 1).fill(null)), /no numbers \(the first is null\)/],
    [
      "with a NaN, as Python writes it",
      answerOf([null, -9.25, ...inside]).replaceAll("-9.25", "NaN"),
      /^1 of its \d+ .*\(the first is NaN\)/,
    ],
    [
      "with an infinite one",
      answerOf([null, -9.25, ...inside]).replaceAll("-9.25", "-Infinity"),
      /the first is -Infinity/,
    ],
    ["without the likeliest tokens", withoutTop, /top_logprobs/],
  ] as const) {
    test(`${title} is of no use`, () => {
      const judged = judgeEcho(probe, "tokens", body);
      assert.equal(judged.kind, "useless");
      assert.match(judged.reason, reason);
    });
  }
});

test("the difference of two answers is a mean over tokens; none when they have other numbers of them", () => {
  assert.equal(differenceOf([-1, -2], [-1, -3]), 0.5);
  assert.equal(differenceOf([-1, -2], [-1, -2]), 0);
  assert.equal(differenceOf([-1, -2], [-1]), null);
  assert.equal(differenceOf([], []), null);
});
