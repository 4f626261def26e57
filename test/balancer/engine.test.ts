import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { engineBetween, readEngine } from "../../src/balancer/engine.ts";

const vllm = `# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="/models/a b}"} 12.0
vllm:num_requests_running{engine="1",model_name="/models/a"} 3.0
vllm:num_requests_waiting{engine="0",model_name="/models/a"} 4.0
vllm:kv_cache_usage_perc{engine="0",model_name="/models/a"} 0.25
vllm:kv_cache_usage_perc{engine="1",model_name="/models/a"} 0.75
vllm:prompt_tokens_total{engine="0",model_name="/models/a"} 1.5e+06
vllm:generation_tokens_total{engine="0",model_name="/models/a"} 2000.0
python_gc_objects_collected_total{generation="0"} 4242.0
`;
const sglang = `sglang:num_running_reqs{model_name="m"} 7.0
sglang:num_queue_reqs{model_name="m"} 2.0
sglang:token_usage{model_name="m"} 0.5
sglang:prompt_tokens_total{model_name="m"} 100.0
sglang:generation_tokens_total{model_name="m"} 10.0
`;

describe("what a server says of itself", () => {
  test("is read from vLLM's page, all its engines together, and from SGLang's", () => {
    assert.deepEqual(readEngine(vllm), {
      running: 15,
      waiting: 4,
      cacheUse: 0.5,
      promptTokens: 1_500_000,
      completionTokens: 2_000,
    });
    assert.deepEqual(readEngine(sglang), {
      running: 7,
      waiting: 2,
      cacheUse: 0.5,
      promptTokens: 100,
      completionTokens: 10,
    });
  });

  test("is unknown of other programs", () => {
    assert.equal(readEngine("process_cpu_seconds_total 3\n"), undefined);
    assert.equal(readEngine("<html>not found</html>"), undefined);
  });

  test("tells the speed of tokens from the second reading on, and not across a restart", () => {
    const reading = readEngine(sglang) ?? assert.fail();
    const first = { reading, at: 1_000 };
    assert.equal(engineBetween(undefined, first).prompt_tokens_per_s, null);
    const later = { reading: { ...reading, promptTokens: 350, completionTokens: 15 }, at: 6_000 };
    assert.deepEqual(engineBetween(first, later), {
      running: 7,
      waiting: 2,
      cache_use: 0.5,
      prompt_tokens_per_s: 50,
      completion_tokens_per_s: 1,
    });
    assert.equal(engineBetween(later, { ...first, at: 9_000 }).prompt_tokens_per_s, null);
  });
});
