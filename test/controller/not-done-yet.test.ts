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
  return parseConfig("eh_config.yaml", `${base}${text}`);
}

describe("what a config asks for and is not done yet", () => {
  test("is nothing, mostly", () => {
    assert.deepEqual(warnOfNotDoneYet(configWith("queue: {kind: auto}")), []);
  });

  test("is told once for all models", () => {
    const { config, source } = configWith(`servers_per_node: 4
request_cache_dir: cache
hf_result_repo: lab/scores
`);
    const more = { ...config, models: { ...config.models, b: config.models["a"] as never } };
    const warnings = warnOfNotDoneYet({ config: more, source });
    assert.equal(warnings.length, 3);
    assert.match(
      warnings.join("\n"),
      /servers_per_node is 4.*\nrequest_cache_dir.*\nhf_result_repo/,
    );
  });

  test("is told of a default when somebody asks for it", () => {
    const told = (text: string) => warnOfNotDoneYet(configWith(text)).join("\n");
    assert.match(told("legacy: check"), /^legacy is not used/);
    assert.equal(told("legacy: ignore"), "");
    assert.match(told("prepare_tokenizer: org/tok"), /^prepare_tokenizer is not used/);
  });

  test("is refused where the run would be another one", () => {
    const config = configWith("queue: {kind: nats, url: nats://localhost:4222}");
    assert.throws(() => warnOfNotDoneYet(config), UsageError);
  });
});
