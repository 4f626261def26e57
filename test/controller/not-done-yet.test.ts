import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { UsageError } from "../../src/base/errors.ts";
import { parseConfig } from "../../src/config/load.ts";
import { warnOfNotDoneYet } from "../../src/controller/not-done-yet.ts";

function configWith(text: string) {
  const base = `
models: {a: {path: /a, display_name: A, tokens_trained: 1}}
inference_server_command: serve
output_path: out
eval: {suites_and_tasks: [x]}
`;
  return parseConfig("eh_config.yaml", `${base}${text}`).config;
}

describe("what a config asks for and is not done yet", () => {
  test("is nothing, mostly", () => {
    assert.deepEqual(warnOfNotDoneYet(configWith("queue: {kind: auto}")), []);
  });

  test("is told once for all models", () => {
    const config = configWith(`num_inference_servers: 4
request_cache_dir: cache
hf_result_repo: lab/scores
`);
    const more = { ...config, models: { ...config.models, b: config.models["a"] as never } };
    const warnings = warnOfNotDoneYet(more);
    assert.equal(warnings.length, 3);
    assert.match(
      warnings.join("\n"),
      /num_inference_servers is 4.*\nrequest_cache_dir.*\nhf_result_repo/,
    );
  });

  test("is refused where the run would be another one", () => {
    const config = configWith("queue: {kind: nats, url: nats://localhost:4222}");
    assert.throws(() => warnOfNotDoneYet(config), UsageError);
  });
});
