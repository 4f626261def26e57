import assert from "node:assert/strict";
import { cp, mkdir, readdir, readFile, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, type TestContext, test } from "node:test";
import { type PythonCalls, planFixtures, startPythonCalls } from "../support/python-calls.ts";
import { requirePython, root } from "../support/require.ts";
import { temporaryDirectory } from "../support/temporary.ts";

type Inputs = Record<string, unknown>;
const api = { model: "local-completions" };

describe("fingerprints", () => {
  let python: PythonCalls | undefined;
  before((t) => {
    const found = requirePython(t as TestContext);
    if (found !== undefined) python = startPythonCalls(found);
  });
  after(() => python?.[Symbol.asyncDispose]());

  const call = <T>(name: string, args: readonly unknown[], cwd?: string): Promise<T> => {
    assert.ok(python, "no Python");
    return python.call("fingerprint", name, args, cwd);
  };
  const taskInputs = (
    suite: string,
    name: string,
    overrides: object = {},
    cwd = suite,
  ): Promise<Inputs> =>
    call(
      "task_inputs",
      [{ name, overrides, source: { kind: "task", yaml_path: join(suite, `${name}.yaml`) } }],
      cwd,
    );
  /** Of the task "mc_a", or another, in a suite; `model_args` and `lm_eval_args` of a local server. */
  const fingerprint = async (
    options: {
      suite?: string;
      /** Default: the suite's. */
      cwd?: string;
      name?: string;
      overrides?: object;
      args?: object;
      model?: object;
      lm_eval?: string;
    } = {},
  ): Promise<string> => {
    const { suite = planFixtures, name = "mc_a", overrides = {}, args = {}, model = {} } = options;
    const task = await taskInputs(suite, name, overrides, options.cwd);
    const evaluation = await call<Inputs>("evaluation_inputs", [
      { model_args: model, lm_eval_args: { ...api, ...args } },
      ...(options.lm_eval === undefined ? [] : [options.lm_eval]),
    ]);
    return await call<string>("leaf_fingerprint", [task, evaluation]);
  };

  const model = {
    model: "${EH_MODEL_PATH}",
    tokenizer: "/models/a/tok",
    max_length: 2048,
    num_concurrent: 8,
  };
  const whereAndHowFast: Record<string, object> = {
    base_url: { ...model, base_url: "http://localhost:${EH_PORT}/v1/completions" },
    "time-outs and retries": { ...model, timeout: 5, max_retries: 9 },
    "headers and keys": { ...model, header: { Authorization: "x" }, api_key: "k" },
    "batch size": { ...model, batch_size: 64 },
    "more requests at a time": { ...model, num_concurrent: 64 },
    "the place of the tokenizer": { ...model, tokenizer: "/elsewhere/tok/" },
    "text for numbers": { ...model, max_length: "2048", num_concurrent: "8" },
  };
  for (const [what, changed] of Object.entries(whereAndHowFast)) {
    test(`${what}: not in it`, async () => {
      assert.equal(await fingerprint({ model: changed }), await fingerprint({ model }));
    });
  }

  const whatIsAsked: Record<string, object> = {
    "another model": { ...model, model: "${OTHER}" },
    "another tokenizer": { ...model, tokenizer: "/models/a/tok2" },
    "another length": { ...model, max_length: 4096 },
    "a tokenizer backend": { ...model, tokenizer_backend: "huggingface" },
    "one request at a time": { ...model, num_concurrent: 1 },
    "an argument that we don't know": { ...model, novelty: 1 },
  };
  for (const [what, changed] of Object.entries(whatIsAsked)) {
    test(`${what}: in it`, async () => {
      assert.notEqual(await fingerprint({ model: changed }), await fingerprint({ model }));
    });
  }

  test("flags of lm_eval that change scores are in it, the others are not", async () => {
    const plain = await fingerprint();
    const without = {
      batch_size: 8,
      log_samples: true,
      cache_requests: true,
      use_cache: "x",
      device: "cpu",
    };
    assert.equal(
      await fingerprint({ args: { ...without, verbosity: "DEBUG", limit: null } }),
      plain,
    );
    const changes = [
      { limit: 10 },
      { seed: 7 },
      { num_fewshot: 3 },
      { apply_chat_template: true },
      { apply_chat_template: true, fewshot_as_multiturn: false },
      { system_instruction: "Be brief." },
      { samples: { mc_a: [1] } },
      { model: "hf" },
    ];
    const seen = new Set([plain]);
    for (const args of changes) seen.add(await fingerprint({ args }));
    assert.equal(seen.size, changes.length + 1);
  });

  test("spellings that lm_eval reads alike are alike", async () => {
    const same = async (left: object, right: object, name = "gen") =>
      assert.equal(
        await fingerprint({ name, args: left }),
        await fingerprint({ name, args: right }),
      );
    await same({ seed: "0,1234,1234,1234" }, {});
    await same({ seed: [3] }, { seed: "3" });
    await same({ limit: 10 }, { limit: "10.0" });
    await same({ num_fewshot: 0 }, {});
    await same(
      { gen_kwargs: "temperature=0.5,top_p=1" },
      { gen_kwargs: { top_p: 1.0, temperature: "0.5" } },
    );
    await same(
      { apply_chat_template: true },
      { apply_chat_template: true, fewshot_as_multiturn: "true" },
    );
  });

  test("gen_kwargs count for generating leaves alone", async () => {
    const args = { gen_kwargs: "temperature=0.7" };
    assert.equal(await fingerprint({ args }), await fingerprint());
    assert.notEqual(await fingerprint({ name: "gen", args }), await fingerprint({ name: "gen" }));
  });

  test("few-shot is the effective number: --num_fewshot leaves a task alone whose config says 0", async () => {
    const zero = join(planFixtures, "nested");
    const given = { num_fewshot: 2 };
    assert.equal(
      await fingerprint({ suite: zero, name: "mc_zero", args: given }),
      await fingerprint({ suite: zero, name: "mc_zero" }),
    );
    assert.equal(
      await fingerprint({ overrides: { num_fewshot: 2 } }),
      await fingerprint({ args: given }),
    );
  });

  test("overrides are in it, labels are not", async () => {
    const plain = await fingerprint();
    assert.notEqual(await fingerprint({ overrides: { description: "Choose." } }), plain);
    assert.notEqual(await fingerprint({ overrides: { fewshot_delimiter: "\n" } }), plain);
    assert.equal(await fingerprint({ overrides: { task_alias: "A" } }), plain);
  });

  test("lm_eval versions that score differently differ, others do not", async () => {
    const of = (lm_eval: string) => fingerprint({ lm_eval });
    assert.notEqual(await of("0.4.12"), await of("0.4.13"));
    assert.equal(await of("0.4.13"), await of("0.4.13.post1"));
  });

  test("a moved suite keeps it; changed include, code, imported code and data change it", async () => {
    await using directory = await temporaryDirectory();
    const suite = join(directory.path, "moved", "suite");
    await mkdir(join(directory.path, "moved"));
    await cp(planFixtures, suite, { recursive: true });
    const plain = await fingerprint();
    assert.equal(await fingerprint({ suite }), plain);
    const seen = new Set([plain]);
    for (const file of ["_mc_base", "functions.py", "shared.py", "data/mc.jsonl"]) {
      const path = join(suite, file);
      const text = await readFile(path, "utf8");
      const changed = file === "_mc_base" ? text.replace("Q: ", "Question: ") : `${text}\n`;
      await writeFile(path, changed);
      seen.add(await fingerprint({ suite }));
      await writeFile(path, text);
      assert.equal(await fingerprint({ suite }), plain, file);
    }
    assert.equal(seen.size, 5);
    await rename(suite, join(directory.path, "again"));
    assert.equal(await fingerprint({ suite: join(directory.path, "again") }), plain);
  });

  describe("of a task that loads its data itself", () => {
    const files = {
      "own.yaml":
        "include: base/loaded\ntask: own\ndataset_kwargs: {data_files: {test: d/*.jsonl}}",
      "base/loaded": "custom_dataset: !function code.load\ntest_split: test",
      "base/code.py": "def load(**kwargs): ...",
    };
    /** From another directory than the suite's, as most runs are planned. */
    const own = (suite: string, overrides: object = {}) =>
      fingerprint({ suite, name: "own", overrides, cwd: "/" });

    for (const [where, folder] of Object.entries({
      "its file": "d",
      "the file of its function": "base/d",
    })) {
      test(`local data beside ${where} enter by content, wherever the suite lies`, async () => {
        await using directory = await temporaryDirectory();
        const suite = join(directory.path, "suite");
        await writeFiles(suite, files);
        const without = await own(suite);
        await writeFiles(suite, { [`${folder}/one.jsonl`]: "{}\n" });
        const plain = await own(suite);
        assert.notEqual(plain, without);
        await writeFiles(suite, { [`${folder}/one.jsonl`]: "{}\n{}\n" });
        assert.notEqual(await own(suite), plain);
        await writeFiles(suite, { [`${folder}/one.jsonl`]: "{}\n", [`${folder}/notes`]: "" });
        assert.equal(await own(suite), plain);
        await rename(suite, join(directory.path, "moved"));
        assert.equal(await own(join(directory.path, "moved")), plain);
      });
    }

    test("two different files of one name both count, two equal ones as one", async () => {
      await using directory = await temporaryDirectory();
      const suite = directory.path;
      await writeFiles(suite, { ...files, "d/one.jsonl": "{}\n" });
      const plain = await own(suite);
      await writeFiles(suite, { "base/d/one.jsonl": "{}\n" });
      assert.equal(await own(suite), plain);
      const seen = new Set([plain]);
      for (const path of ["base/d/one.jsonl", "d/one.jsonl"]) {
        await writeFiles(suite, { [path]: "[]\n" });
        seen.add(await own(suite));
        await writeFiles(suite, { [path]: "{}\n" });
      }
      assert.equal(seen.size, 3);
    });

    test("folders count without what Python leaves there, other arguments when they name a file", async () => {
      await using directory = await temporaryDirectory();
      const suite = directory.path;
      await writeFiles(suite, { ...files, "words.txt": "a", "d/one.jsonl": "{}\n" });
      const kwargs = (more: object) => ({ dataset_kwargs: { data_dir: ".", ...more } });
      const plain = await own(suite, kwargs({}));
      await writeFiles(suite, { "base/__pycache__/code.pyc": "" });
      assert.equal(await own(suite, kwargs({})), plain);

      const words = { dataset_kwargs: { split: "d", words: "words.txt" } };
      const before = await own(suite, words);
      await writeFiles(suite, { "d/one.jsonl": "{}\n{}\n" });
      assert.equal(await own(suite, words), before);
      await writeFiles(suite, { "words.txt": "b" });
      assert.notEqual(await own(suite, words), before);
    });

    test("each of the demo's tasks is another one when its questions change", async () => {
      await using directory = await temporaryDirectory();
      const suite = join(directory.path, "tasks");
      await cp(join(root, "examples/demo/tasks"), suite, { recursive: true });
      const yamls = (await readdir(suite)).filter((file) =>
        /^demo_(?!knowledge).*\.yaml$/.test(file),
      );
      assert.ok(yamls.length >= 8);
      const all = () =>
        Promise.all(
          yamls.map((file) => fingerprint({ suite, name: file.replace(".yaml", ""), cwd: "/" })),
        );
      const before = await all();
      for (const file of await readdir(join(suite, "data"))) {
        const text = await readFile(join(suite, "data", file), "utf8");
        await writeFile(join(suite, "data", file), text.slice(text.indexOf("\n") + 1));
      }
      const after = new Set(await all());
      assert.deepEqual(
        yamls.filter((_, index) => after.has(before[index] ?? "")),
        [],
      );
    });
  });

  test("what no local file is named by keeps the fingerprint that it had", async () => {
    const inputs = await taskInputs(planFixtures, "mc_a", {
      custom_dataset: { "!function": "functions.keep", directory: planFixtures },
      dataset_path: null,
      dataset_kwargs: { size: 4, name: "en", folder: "/data/en", data_files: "hf://a/b.json" },
    });
    assert.deepEqual(inputs.data, {
      path: null,
      kwargs: { size: 4, name: "en", folder: "en", data_files: "hf://a/b.json" },
    });
  });

  test("inputs are small, hold no absolute path or address, and give the fingerprint back", async () => {
    const overrides = {
      description: "x".repeat(10_000),
      process_docs: { "!function": "functions.keep", directory: planFixtures },
    };
    const task = await taskInputs(planFixtures, "gen", overrides);
    const evaluation = await call<Inputs>("evaluation_inputs", [
      { model_args: model, lm_eval_args: api },
    ]);
    const inputs = await call<Inputs>("leaf_inputs", [task, evaluation]);
    const stored = JSON.stringify(inputs);
    assert.ok(stored.length < 4000, `${stored.length}`);
    assert.doesNotMatch(stored, / at 0x|"\/|test\/fixtures/);
    assert.equal(
      await call("fingerprint_of", [JSON.parse(stored)]),
      await call("leaf_fingerprint", [task, evaluation]),
    );
  });

  test('unequal generation_kwargs with one text differ: until "an" is not until [a, n]', async () => {
    const of = (until: unknown) =>
      fingerprint({ name: "gen", overrides: { generation_kwargs: { until } } });
    assert.notEqual(await of("an"), await of(["a", "n"]));
  });
});

async function writeFiles(
  directory: string,
  files: Readonly<Record<string, string>>,
): Promise<void> {
  for (const [name, text] of Object.entries(files)) {
    await mkdir(join(directory, name, ".."), { recursive: true });
    await writeFile(join(directory, name), text);
  }
}
