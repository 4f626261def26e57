import assert from "node:assert/strict";
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { describe, type TestContext, test } from "node:test";
import { promisify } from "node:util";
import { trainModel } from "../../examples/demo/train.ts";
import { isLong, requirePython, root } from "../support/require.ts";
import { temporaryDirectory } from "../support/temporary.ts";

const run = promisify(execFile);
const offline = {
  HF_HUB_OFFLINE: "1",
  HF_DATASETS_OFFLINE: "1",
  TRANSFORMERS_OFFLINE: "1",
  HF_EVALUATE_OFFLINE: "1",
};

interface DemoServer extends AsyncDisposable {
  readonly url: string;
  readonly process: ChildProcess;
}

/** By the same command as eh_config.yaml. */
async function startDemoServer(model: string): Promise<DemoServer> {
  const command = [join(root, "examples/demo/serve.sh"), "--model", model, "--port", "0"];
  const child = spawn("sh", command, {
    env: { ...process.env, EVAL_HIVE_NODE: process.execPath },
    stdio: ["ignore", "pipe", "inherit"],
  });
  const [line] = (await once(createInterface({ input: child.stdout }), "line")) as [string];
  const { port } = JSON.parse(line) as { port: number };
  return {
    url: `http://127.0.0.1:${port}`,
    process: child,
    [Symbol.asyncDispose]: async () => {
      if (child.exitCode !== null || child.signalCode !== null) return;
      child.kill("SIGKILL");
      await once(child, "exit");
    },
  };
}

async function trainSmallModel(directory: string): Promise<string> {
  await trainModel(directory, { directory: "small", bytes: 32_000, order: 10 });
  return join(directory, "small");
}

describe("the demo's server", () => {
  test("answers health, models and completions, side by side, and refuses the rest", async () => {
    await using directory = await temporaryDirectory();
    const model = await trainSmallModel(directory.path);
    await using server = await startDemoServer(model);
    const fetchJson = async (path: string, body?: string) => {
      const response = await fetch(
        server.url + path,
        body === undefined ? {} : { method: "POST", body },
      );
      return { status: response.status, body: (await response.json()) as Record<string, unknown> };
    };
    assert.equal((await fetchJson("/health")).status, 200);
    const models = await fetchJson("/v1/models");
    assert.deepEqual(
      (models.body["data"] as { id: string }[]).map(({ id }) => id),
      [model],
    );
    assert.equal((await fetchJson("/nowhere")).status, 404);
    assert.equal((await fetchJson("/v1/completions", `{"prompt":[[-1]]}`)).status, 400);

    const bodies = Array.from({ length: 20 }, (_, length) =>
      JSON.stringify({
        prompt: "The cow says moo. ".repeat(length + 1),
        max_tokens: 1,
        echo: true,
        logprobs: 1,
        temperature: 0,
      }),
    );
    const choices = async (body: string) =>
      (await fetchJson("/v1/completions", body)).body["choices"];
    const together = await Promise.all(bodies.map(choices));
    for (const [index, body] of bodies.entries())
      assert.deepEqual(await choices(body), together[index]);
  });

  for (const signal of ["SIGTERM", "SIGINT"] as const) {
    test(`ends at once on ${signal}, with a connection open`, async () => {
      await using directory = await temporaryDirectory();
      await using server = await startDemoServer(await trainSmallModel(directory.path));
      await (await fetch(`${server.url}/health`)).text();
      const startedAt = performance.now();
      server.process.kill(signal);
      await once(server.process, "exit");
      assert.ok(performance.now() - startedAt < 1_000);
    });
  }

  test("says what is wrong with a directory that holds no checkpoint", async () => {
    await using directory = await temporaryDirectory();
    const command = [join(root, "examples/demo/server.ts"), "--model", directory.path];
    await assert.rejects(run(process.execPath, command), /config\.json/);
  });
});

interface Results {
  readonly results: Readonly<Record<string, Readonly<Record<string, unknown>>>>;
}

/** Plain lm_eval on every task of the demo, a few questions each, from a directory that has nothing to do with them. */
async function evaluate(
  python: string,
  server: DemoServer,
  model: string,
  cwd: string,
): Promise<Results> {
  const modelArgs = `model=${model},tokenizer=${model},base_url=${server.url}/v1/completions,tokenizer_backend=huggingface,num_concurrent=2`;
  const settings = {
    model: "local-completions",
    model_args: modelArgs,
    include_path: join(root, "examples/demo/tasks"),
    tasks: "demo_knowledge,demo_agreement,demo_last_word,demo_held_out",
    limit: "5",
    batch_size: "4",
    output_path: join(cwd, "out.json"),
  };
  const flags = Object.entries(settings).flatMap(([key, value]) => [`--${key}`, value]);
  const env = { ...process.env, ...offline, HF_HOME: join(cwd, "hf") };
  await run(python, ["-m", "lm_eval", "run", ...flags], { cwd, env });
  const file = (await readdir(cwd)).find((name) => name.startsWith("out_"));
  assert.ok(file !== undefined, "lm_eval wrote no results");
  return JSON.parse(await readFile(join(cwd, file), "utf8")) as Results;
}

const versions = isLong ? (["0.4.13", "0.4.12"] as const) : [];
for (const version of versions) {
  test(`lm_eval ${version} evaluates the demo's tasks from any directory, offline`, async (t: TestContext) => {
    const python = requirePython(t, version);
    if (python === undefined) return;
    await using directory = await temporaryDirectory();
    const model = await trainSmallModel(directory.path);
    await using server = await startDemoServer(model);
    const { results } = await evaluate(python, server, model, directory.path);
    assert.deepEqual(Object.keys(results).sort(), [
      "demo_agreement",
      "demo_held_out",
      "demo_homes",
      "demo_knowledge",
      "demo_last_word",
      "demo_opposites",
      "demo_sounds",
      "demo_sums",
      "demo_trades",
    ]);
    const bits = results["demo_held_out"]?.["bits_per_byte,none"] as number;
    assert.ok(bits > 0.3 && bits < 2, `${bits} bits per byte`);
    assert.equal(typeof results["demo_knowledge"]?.["exact_match,answer"], "number");
    assert.equal(typeof results["demo_knowledge"]?.["acc,none"], "number");
  });
}

test("byte tokenizer: each byte is its own id", async (t) => {
  const python = requirePython(t);
  if (python === undefined) return;
  await using directory = await temporaryDirectory();
  const model = await trainSmallModel(directory.path);
  const script = `import json, sys
from transformers import AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
text = "A b\\n é 漢 \\x7f\\x00<|endoftext|>"
ids = tokenizer.encode(text, add_special_tokens=False)
print(json.dumps([ids, list(text.replace("<|endoftext|>", "").encode()) + [256], tokenizer.decode(ids) == text, tokenizer.eos_token_id]))`;
  const { stdout } = await run(python, ["-c", script, model], {
    env: { ...process.env, ...offline },
  });
  const [ids, expected, roundTrip, endOfText] = JSON.parse(stdout) as [
    number[],
    number[],
    boolean,
    number,
  ];
  assert.deepEqual(ids, expected);
  assert.deepEqual([roundTrip, endOfText], [true, 256]);
});
