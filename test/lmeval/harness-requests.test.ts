import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import type { RunMessage } from "../../src/lmeval/harness.ts";
import {
  completionsEvaluation,
  type LeafResult,
  ofType,
  type RunSettings,
  readResult,
  startCompletionsServer,
} from "../support/evaluations.ts";
import { type BatchAnswer, describeOnBench } from "../support/harness-bench.ts";
import { until } from "../support/until.ts";

async function doneResults({ messages }: BatchAnswer): Promise<LeafResult[]> {
  assert.deepEqual(ofType(messages, "leaf_failed"), []);
  assert.deepEqual(ofType(messages, "error"), []);
  return await Promise.all(
    ofType(messages, "leaf_done").map(({ path, samples_path }) =>
      readResult(path, samples_path ?? undefined),
    ),
  );
}

const modelArgs = ({ result }: LeafResult) =>
  (result["config"] as { model_args: Record<string, unknown> }).model_args;

describeOnBench("what reaches the server", {}, (bench) => {
  /** A server that notes its requests, and a batch that it answers. */
  async function askNoted(
    leaves: readonly string[],
    model_args: Record<string, unknown>,
    given: Partial<RunSettings> & { flags?: string[] } = {},
  ) {
    const { flags = [], ...more } = given;
    const log = join(await bench.directory(), "requests");
    await using server = await startCompletionsServer(["--request-log", log, ...flags]);
    const answer = await bench.run(leaves, {
      evaluation: completionsEvaluation({ model_args }),
      base_url_prefix: `http://127.0.0.1:${server.port}/eh/secret-token/r1`,
      ...more,
      env: { EH_PORT: String(server.port), ...more.env },
    });
    const noted = await readFile(log, "utf8").catch(() => "");
    const lines = noted.split("\n").filter((line) => line !== "");
    const stats = await (await fetch(`http://127.0.0.1:${server.port}/stats`)).json();
    return {
      port: server.port,
      answer,
      results: await doneResults(answer),
      missed: (stats as { missed: string[] }).missed,
      paths: [...new Set(lines.map((line) => (JSON.parse(line) as { path: string }).path))],
    };
  }

  const rewritten: Record<string, string> = {
    "127.0.0.1": "http://127.0.0.1:${EH_PORT}/v1/completions",
    localhost: "http://localhost:${EH_PORT}/v1/completions",
    "127.8.9.10, with a query": "http://127.8.9.10:${EH_PORT}/v1/completions?key=1",
  };
  for (const [host, base_url] of Object.entries(rewritten)) {
    test(`each leaf asks under the balancer's prefix and its own number: ${host}`, async () => {
      const asked = await askNoted(["ev_generate", "ev_loglikelihood"], { base_url });
      const query = base_url.includes("?") ? "?key=1" : "";
      assert.deepEqual(asked.paths, [
        `/eh/secret-token/r1/0/v1/completions${query}`,
        `/eh/secret-token/r1/1/v1/completions${query}`,
      ]);
      for (const result of asked.results) {
        const expected = base_url.replace("${EH_PORT}", String(asked.port));
        assert.equal(modelArgs(result)["base_url"], expected);
        assert.ok(!JSON.stringify(result).includes("secret-token"));
      }
    });
  }

  test("a batch that is held does all but ask, until it is its turn", async () => {
    await using server = await startCompletionsServer();
    const asked = async () => {
      const stats = await (await fetch(`http://127.0.0.1:${server.port}/stats`)).json();
      return (stats as { completions: number }).completions;
    };
    const settings = await bench.settings(["ev_generate", "ev_loglikelihood"], {
      held: true,
      env: { EH_PORT: String(server.port) },
      base_url_prefix: `http://127.0.0.1:${server.port}/batch`,
    });
    const messages: RunMessage[] = [];
    const run = bench.harness.run(settings, (message) => messages.push(message));
    const phases = () => ofType(messages, "progress").map(({ phase }) => phase);
    await until(() => phases().includes("prepared"), { what: "the batch is prepared" });
    assert.equal(await asked(), 0);
    run.go();
    const { exit_code } = await run.ended;
    const done = ofType(messages, "leaf_done");
    assert.deepEqual([exit_code, done.length], [0, 2]);
    assert.ok((await asked()) > 0);
    // The turn is for the whole batch.
    assert.equal(phases().filter((phase) => phase === "prepared").length, 1);
    const last = ofType(messages, "progress").at(-1);
    assert.deepEqual([last?.phase, last?.nearly_done], ["scoring", true]);
  });

  test("a batch that is held can be cancelled", async () => {
    const messages: RunMessage[] = [];
    const settings = await bench.settings(["ev_generate"], { held: true });
    const run = bench.harness.run(settings, (message) => messages.push(message));
    await until(() => ofType(messages, "progress").some(({ phase }) => phase === "prepared"));
    run.cancel();
    const { signal, cancelled } = await run.ended;
    assert.deepEqual([signal, cancelled], ["SIGTERM", true]);
    run.go();
    await bench.harness.ping();
  });

  test("an address that is no loopback, another port, or no balancer: asked as it is", async () => {
    const anywhere = await askNoted(["ev_generate"], {
      base_url: "http://0.0.0.0:${EH_PORT}/v1/completions",
    });
    assert.deepEqual(anywhere.paths, ["/v1/completions"]);
    const elsewhere = await askNoted(
      ["ev_generate"],
      { base_url: "http://127.0.0.1:${EV_OTHER}/v1/completions" },
      { env: { EV_OTHER: String(bench.port) } },
    );
    assert.deepEqual([elsewhere.results.length, elsewhere.paths], [1, []]);
    const direct = await askNoted(["ev_generate"], {}, { base_url_prefix: null });
    assert.deepEqual(direct.paths, ["/v1/completions"]);
  });

  test("our time-out and retries count, also against explicit ones, and those are what is saved", async () => {
    const theirs = { timeout: 0, max_retries: 1, num_concurrent: 1 };
    const { results } = await askNoted(["ev_generate"], theirs, {
      request_retries: 3,
      request_timeout_s: 60,
      flags: ["--fail-first", "1"],
    });
    const { timeout, max_retries, num_concurrent } = modelArgs(results[0] as LeafResult);
    assert.deepEqual({ timeout, max_retries, num_concurrent }, theirs);
  });

  test("the tokenizer is Hugging Face's unless the config says otherwise", async () => {
    const silent = await askNoted(["ev_loglikelihood"], {});
    assert.deepEqual(silent.missed, []);
    assert.ok(!("tokenizer_backend" in modelArgs(silent.results[0] as LeafResult)));
    const explicit = await askNoted(["ev_loglikelihood"], { tokenizer_backend: "auto" });
    assert.ok(explicit.missed.includes("/eh/secret-token/r1/0/tokenizer_info"));
  });

  test("no proxy stands between, whatever the environment says", async () => {
    const dead = "http://127.0.0.1:1";
    const { results } = await askNoted(
      ["ev_generate"],
      { num_concurrent: 1 },
      { env: { http_proxy: dead, HTTP_PROXY: dead, all_proxy: dead, no_proxy: "elsewhere" } },
    );
    assert.equal(results.length, 1);
  });

  test("a leaf with overrides gets no requests that are cached for the plain one, nor another seed's", async () => {
    const cached = completionsEvaluation({ lm_eval_args: { cache_requests: "true" } });
    const seeded = completionsEvaluation({ lm_eval_args: { cache_requests: "true", seed: 7 } });
    const described = Object.keys(await bench.plan(["ev_described"]))[0] as string;
    const scoresOf = async (leaf: string, evaluation = completionsEvaluation()) => {
      const suite = leaf === described ? "ev_described" : leaf;
      const planned = Object.values(await bench.plan([suite], evaluation));
      const answer = await bench.run([], { evaluation, leaves: planned });
      const [done] = await doneResults(answer);
      return { results: done?.result["results"], samples: done?.samples };
    };
    assert.deepEqual(await scoresOf("ev_mc", cached), await scoresOf("ev_mc"));
    const fresh = await scoresOf(described);
    assert.deepEqual(await scoresOf(described, cached), fresh);
    assert.notDeepEqual(fresh, await scoresOf("ev_mc", cached));
    // Few-shot examples are drawn by the seed.
    const drawn = await scoresOf("ev_mc_fewshot", cached);
    assert.deepEqual(await scoresOf("ev_mc_fewshot", cached), drawn);
    assert.notDeepEqual(await scoresOf("ev_mc_fewshot", seeded), drawn);
  });
});
