import assert from "node:assert/strict";
import { describe, test } from "node:test";
import {
  type ExaminationTimes,
  type ExaminedServer,
  examineServer,
} from "../../src/agent/examine-server.ts";
import { askModels } from "../../src/agent/health.ts";
import type { HowToAsk } from "../../src/agent/node-protocol.ts";
import { type Asked, answer, startUpstream } from "../support/upstream.ts";

const never = new AbortController().signal;
const quick: ExaminationTimes = { questionMs: 10_000, allMs: 10_000, pauseMs: 1 };
const scoring: HowToAsk = {
  path: "/v1/completions",
  kind: "completions",
  echo: "tokens",
  headers: null,
};
const generating: HowToAsk = { ...scoring, echo: null };

/** Answers with log-probabilities that depend on the tokens alone, all less by `shift`. */
function scoreLess({ response, body }: Asked, shift: number): void {
  const [tokens = []] = (JSON.parse(body) as { prompt: number[][] }).prompt;
  const of = (token: number) => -token / 16 - shift;
  const token_logprobs = [null, ...tokens.slice(1).map(of), -1];
  const top_logprobs = token_logprobs.map((value) => value && { a: value });
  answer(response, 200, { choices: [{ index: 0, logprobs: { token_logprobs, top_logprobs } }] });
}

const score = (asked: Asked): void => scoreLess(asked, 0);

async function examine(
  serve: (asked: Asked, n: number) => void,
  given: Partial<ExaminedServer> = {},
  times: Partial<ExaminationTimes> = {},
) {
  await using upstream = await startUpstream(serve);
  const { url, asked } = upstream;
  const server = { url, model: "m", names: ["m"], apiKey: "secret", ask: scoring, ...given };
  const found = await examineServer(server, never, { ...quick, ...times });
  return { found, asked };
}

describe("a server of a unit with log-likelihoods", () => {
  test("is fit when it scores, and is asked as the harness will ask it", async () => {
    const { found, asked } = await examine(score, {
      ask: { ...scoring, path: "/v1/completions?x=1" },
    });
    assert.equal(found.kind, "fit");
    assert.deepEqual(Object.keys(found), ["kind", "echo"]);
    assert.ok(found.echo?.every((logprob) => logprob < 0));
    assert.deepEqual(
      asked.map(({ request: { method, url, headers } }) => [method, url, headers.authorization]),
      Array(3).fill(["POST", "/v1/completions?x=1", "Bearer secret"]),
    );
    const [first, second, third] = asked.map(({ body }) => body);
    assert.equal(first, third);
    assert.notEqual(first, second);
  });

  test("gets the fields of model_args.header instead of a key", async () => {
    const headers = { "x-key": "k" };
    const { asked } = await examine(score, { ask: { ...scoring, headers } });
    const sent = asked[0]?.request.headers;
    assert.deepEqual([sent?.["x-key"], sent?.authorization], ["k", undefined]);
  });

  test("is unfit when its answers hold no log-probabilities", async () => {
    const { found, asked } = await examine(({ response }) => answer(response, 200));
    assert.equal(found.kind, "unfit");
    assert.match(found.reason, /^log-likelihoods can't be had from it: .*not there/);
    assert.equal(asked.length, 1);
  });

  test("is unfit when it refuses: with its own words", async () => {
    const refusal = { error: { message: "prompt_logprobs  are not\nsupported", code: 400 } };
    const { found, asked } = await examine(({ response }) => answer(response, 400, refusal));
    const reason = "/v1/completions answers 400: prompt_logprobs are not supported";
    assert.deepEqual(found, { kind: "unfit", reason });
    assert.equal(asked.length, 1);
  });

  test("is unfit when it fails each time, and forgiven when it does so twice", async () => {
    const failing = await examine(({ response }) => answer(response, 500, "CUDA error"));
    assert.deepEqual(failing.found, {
      kind: "unfit",
      reason: '/v1/completions answers 500: "CUDA error"',
    });
    const twice = await examine((asked, n) =>
      n <= 2 ? answer(asked.response, 500, "x") : score(asked),
    );
    assert.equal(twice.found.kind, "fit");
  });

  test("may ask for time, and break connections, as long as it answers in the end", async () => {
    const { found, asked } = await examine((asked, n) => {
      if (n <= 4) answer(asked.response, 503, "loading");
      else if (n === 5) asked.request.socket.destroy();
      else score(asked);
    });
    assert.equal(found.kind, "fit");
    assert.equal(asked.length, 8);
  });

  test("has failed when it asks for time until there is none left", async () => {
    const busy = ({ response }: Asked) => answer(response, 429, { error: "too many" });
    const { found } = await examine(busy, {}, { allMs: 0 });
    assert.deepEqual(found, {
      kind: "failing",
      reason: "/v1/completions answers 429: too many",
    });
  });

  test("has failed when it does not answer within the time of a question", async () => {
    const { found, asked } = await examine(() => {}, {}, { questionMs: 50 });
    assert.equal(found.kind, "failing");
    assert.match(found.reason, /gave no answer to a short request within 0.05 s/);
    assert.equal(asked.length, 1);
  });

  test("whose answer depends on what was asked before is fit, with the measured difference", async () => {
    const { found } = await examine((asked, n) => scoreLess(asked, n === 3 ? 0.75 : 0));
    assert.equal(found.kind, "fit");
    assert.equal(found.unsteady?.toFixed(3), "0.750");
    const rounding = await examine((asked, n) => scoreLess(asked, n === 3 ? 0.01 : 0));
    assert.equal("unsteady" in rounding.found, false);
  });
});

describe("a server that names another model at /v1/models", () => {
  const otherName = { model: "/models/one", names: ["two", "three"] };
  const refuse = ({ response }: Asked) =>
    answer(response, 404, { error: { message: "The model `/models/one` does not exist." } });

  for (const [title, ask] of [
    ["of scores", scoring],
    ["of generations", generating],
    ["of chats", { ...generating, kind: "chat" }],
  ] as const) {
    test(`is unfit when it refuses ours: both names and the keys to change, for a unit ${title}`, async () => {
      const { found, asked } = await examine(refuse, { ...otherName, ask });
      assert.equal(found.kind, "unfit");
      assert.match(
        found.reason,
        /^requests ask for model "\/models\/one" \(eval\.model_args\.model\), \/v1\/models names "two", "three", and .* answers 404: The model .* does not exist\.; write the same name into eval\.model_args\.model, or .*inference_server_command/,
      );
      assert.equal(JSON.parse(asked[0]?.body ?? "").model, "/models/one");
    });
  }

  test("is fit when it answers nevertheless: that is a warning", async () => {
    const warning =
      'requests ask for model "/models/one" (eval.model_args.model), /v1/models names "two", "three"';
    const scored = await examine(score, otherName);
    assert.equal(scored.found.kind, "fit");
    assert.equal(scored.found.warning, warning);
    const generated = await examine(({ response }) => answer(response, 200), {
      ...otherName,
      ask: generating,
    });
    assert.deepEqual(generated.found, { kind: "fit", warning });
    assert.deepEqual((await examine(score, { ...otherName, ask: undefined })).found, {
      kind: "fit",
      warning,
    });
  });

  test("is asked nothing at all when the names agree and nothing is scored", async () => {
    for (const given of [{}, { names: undefined }, { model: null }]) {
      const { found, asked } = await examine(score, { ask: generating, ...given });
      assert.deepEqual([found, asked.length], [{ kind: "fit" }, 0]);
    }
  });
});

describe("the names of a server's models", () => {
  async function namesOf(serve: (asked: Asked, n: number) => void) {
    await using upstream = await startUpstream(serve);
    const names = await askModels(upstream.url, never);
    return [names, upstream.asked.length];
  }
  const list = { data: [{ id: "m" }, { id: "n" }] };

  test("are asked for again when the connection breaks, and not without end", async () => {
    const breaks = ({ response }: Asked) => void response.destroy();
    const later = (asked: Asked, n: number) =>
      n < 3 ? breaks(asked) : answer(asked.response, 200, list);
    assert.deepEqual(await namesOf(later), [["m", "n"], 3]);
    assert.deepEqual(await namesOf(breaks), [undefined, 3]);
  });

  test("are not there when it says so", async () => {
    assert.deepEqual(await namesOf(({ response }) => answer(response, 404)), [undefined, 1]);
    assert.deepEqual(await namesOf(({ response }) => answer(response, 200, {})), [undefined, 1]);
  });
});
