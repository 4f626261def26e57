import assert from "node:assert/strict";
import { link, mkdir, readdir, readFile, rm, symlink, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, type TestContext, test } from "node:test";
import { HarnessMessage, type Planned } from "../../src/lmeval/protocol.ts";
import type { SuiteNode } from "../../src/lmeval/task-tree.ts";
import {
  indexCache,
  type PythonCalls,
  planFixtures,
  runTaskScript,
  startPythonCalls,
} from "../support/python-calls.ts";
import { requirePython } from "../support/require.ts";
import { temporaryDirectory } from "../support/temporary.ts";

const bare = { model_args: {}, lm_eval_args: {} };

for (const version of ["0.4.13", "0.4.12"] as const) {
  describe(`planning with lm_eval ${version}`, () => {
    let python: PythonCalls | undefined;
    let pythonPath: string | undefined;

    before((t) => {
      pythonPath = requirePython(t as TestContext, version);
      if (pythonPath !== undefined) python = startPythonCalls(pythonPath);
    });
    after(() => python?.[Symbol.asyncDispose]());

    const plan = async (
      suites: readonly string[],
      request: { include_path?: string | null; cache_dir?: string; evaluations?: unknown } = {},
    ): Promise<Planned> => {
      assert.ok(python, "no Python");
      const answer = await python.call("planning", "plan", [
        {
          type: "plan",
          id: "p1",
          suites,
          include_path: planFixtures,
          cache_dir: indexCache,
          evaluations: { default: bare },
          ...request,
        },
      ]);
      // The wire contract, strict: an extra or missing field fails here.
      return HarnessMessage.parse(answer) as Planned;
    };
    const leafOf = (planned: Planned, id: string) => {
      const leaf = planned.leaves.find((candidate) => candidate.id === id);
      assert.ok(
        leaf,
        `no leaf "${id}" among ${planned.leaves.map((other) => other.id).join(", ")}`,
      );
      return leaf;
    };

    test("describes a leaf without importing its code or loading its data", async () => {
      const planned = await plan(["gen", "python_task"]);
      const { inputs: _, source, ...gen } = leafOf(planned, "gen");
      assert.deepEqual(source, { kind: "task", yaml_path: join(planFixtures, "gen.yaml") });
      assert.deepEqual(gen, {
        id: "gen",
        name: "gen",
        overrides: {},
        output_type: "generate_until",
        dataset: { path: "json", name: null },
        num_fewshot: 0,
        max_gen_toks: 16,
        generation_kwargs: { until: ["\n"], max_gen_toks: 16, do_sample: false, temperature: 0 },
        repeats: 2,
        filters: ["all,digits"],
        metrics: [
          { metric: "exact_match", aggregation: "mean", higher_is_better: true },
          { metric: "own", aggregation: "score", higher_is_better: false },
        ],
        unsafe_code: true,
        python_class: null,
        version: "Yaml",
      });
      const counting = leafOf(planned, "python_task");
      assert.equal(counting.python_class, `${join(planFixtures, "python_task.py")}:Counting`);
      assert.equal(counting.version, 3);
    });

    test("takes tags apart in sorted order and writes inline groups as parent::name", async () => {
      const [suite] = (await plan(["suite"])).suites;
      assert.ok(suite);
      assert.deepEqual(outline(suite), [
        "mc_a",
        "mc_b",
        "mc_c",
        ["inner", "mc_b", "mc_c"],
        "few_tag",
        "mc_zero",
        ["suite::written_here", "mc_a", "gen"],
      ]);
      assert.deepEqual(
        { alias: suite.alias, version: suite.version, aggregation: suite.aggregation },
        {
          alias: "Everything",
          version: "2",
          aggregation: [
            { metric: "acc", filter_list: ["none"], weight_by_size: false },
            { metric: "exact_match", filter_list: null, weight_by_size: true },
          ],
        },
      );
      assert.equal(suite.children.find(({ name }) => name === "mc_zero")?.alias, "three shots");
    });

    test("makes another leaf of a name with overrides, the outer group's over the inner's", async () => {
      const planned = await plan(["inner", "suite", "mc_b"]);
      const overridden = planned.leaves.filter(({ name }) => name === "mc_b");
      assert.deepEqual(
        overridden.map(({ overrides }) => overrides),
        [
          { num_fewshot: 1, fewshot_delimiter: "\n" },
          {},
          // `{group: inner, num_fewshot: 7}`
          { num_fewshot: 7, fewshot_delimiter: "\n" },
        ],
      );
      assert.equal(new Set(overridden.map(({ id }) => id)).size, 3);
      for (const { id, overrides } of overridden) {
        assert.match(id, Object.keys(overrides).length > 0 ? /^mc_b~[0-9a-f]{6}$/ : /^mc_b$/);
      }
    });

    test("an override that repeats the task's own value makes no other leaf", async () => {
      await using suite = await localSuite({
        "task.yaml": mc("plain", "num_fewshot: 3"),
        "group.yaml": "{group: same, num_fewshot: 3, task: [plain]}",
      });
      const planned = await plan(["same", "plain"], { include_path: suite.path });
      assert.deepEqual(
        planned.leaves.map(({ id }) => id),
        ["plain"],
      );
    });

    test("a leaf's id is safe as a file name and stays distinct", async () => {
      await using suite = await localSuite({
        "a.yaml": mc('"x/y"'),
        "b.yaml": mc('"x:y"'),
        "c.yaml": mc('"../up"'),
      });
      const ids = (await plan(["x/y", "x:y", "../up"], { include_path: suite.path })).leaves.map(
        ({ id }) => id,
      );
      assert.equal(new Set(ids).size, 3);
      for (const id of ids) assert.match(id, /^[A-Za-z0-9_][A-Za-z0-9._~-]*$/);
    });

    test("--num_fewshot reaches every leaf except those whose config says 0, as in lm_eval", async () => {
      const given = { model_args: {}, lm_eval_args: { num_fewshot: 2 } };
      const planned = await plan(["mc_a", "mc_five", "mc_zero"], {
        evaluations: { default: given },
      });
      assert.deepEqual(
        planned.leaves.map(({ id, num_fewshot }) => [id, num_fewshot]),
        [
          ["mc_a", 2],
          ["mc_five", 2],
          ["mc_zero", 0],
        ],
      );
    });

    test("warns of {task: <group>} and plans the one leaf that lm_eval evaluates", async () => {
      const planned = await plan(["renamed"]);
      assert.match(
        planned.warnings.join("\n"),
        /"renamed" names the group or tag "inner" by "task:"/,
      );
      const leaf = planned.leaves.find(({ name }) => name === "inner");
      assert.equal(leaf?.source.yaml_path, join(planFixtures, "mc_b.yaml"));
      assert.equal(leaf?.overrides.num_fewshot, 9);
    });

    test("keeps two variants of a leaf in one group apart, and says that lm_eval would not", async () => {
      const planned = await plan(["variants"]);
      const [suite] = planned.suites;
      assert.deepEqual(suite && outline(suite), ["mc_a", "mc_a", "mc_b"]);
      assert.equal(new Set(suite?.children.map(({ leaf_id }) => leaf_id)).size, 3);
      assert.match(
        planned.warnings.join("\n"),
        /"variants" holds "mc_a" with 2 different overrides/,
      );
    });

    test("a task written out inside a group is a leaf with its whole config as overrides", async () => {
      const leaf = leafOf(await plan(["written_out"]), "written_out--own~e9fd2e");
      assert.equal(leaf.name, "written_out::own");
      assert.equal(leaf.source.kind, "inline");
      assert.equal(leaf.output_type, "multiple_choice");
    });

    test("tells unknown suites and members with near spellings", async () => {
      const planned = await plan(["gap", "mc_d"]);
      const near = new Map(planned.unknown.map((entry) => [entry.name, entry.near]));
      assert.deepEqual([...near.keys()], ["mc_d", "mc_bb"]);
      assert.ok(near.get("mc_d")?.includes("mc_a"));
      assert.deepEqual(planned.suites[0]?.missing, ["mc_bb"]);
    });

    test("names broken files of the include path, and tasks that lm_eval will refuse", async () => {
      const { warnings } = await plan(["misspelled"]);
      const text = warnings.join("\n");
      assert.match(text, /Cannot read task file ".*\/broken\.yaml"/);
      assert.match(text, /"misspelled" in .* unexpected keyword argument 'metrics'/);
      assert.doesNotMatch(text, /functions|_mc_base/);
    });

    test("names local data that is nowhere, unless they are a data set's own files on the Hub", async () => {
      const loaded = (name: string) => [`task: ${name}`, "custom_dataset: !function code.load"];
      await using suite = await localSuite({
        "code.py": "def load(**kwargs): ...",
        "here.jsonl": "{}",
        "a.yaml": mc("a", "dataset_kwargs: {data_files: {test: gone/mc.jsonl}}"),
        "b.yaml": [...loaded("b"), "dataset_kwargs: {data_files: [here.jsonl, gone.jsonl]}"].join(
          "\n",
        ),
        "c.yaml": [...loaded("c"), "dataset_kwargs: {data_dir: gone, data_files: ''}"].join("\n"),
        "d.yaml": mc("d", "dataset_kwargs: {data_files: 'https://example.com/x.json'}"),
        "e.yaml": "task: e\ndataset_path: org/set\ndataset_kwargs: {data_files: en.jsonl}",
        "f.yaml": [...loaded("f"), "dataset_kwargs: {data_files: '*.jsonl', size: 3}"].join("\n"),
      });
      const { warnings } = await plan([..."abcdef"], { include_path: suite.path });
      assert.deepEqual(
        warnings.map((text) => /Task "(.*)" names local data .* "(.*)": no/.exec(text)?.slice(1)),
        [
          ["a", "gone/mc.jsonl"],
          ["b", "gone.jsonl"],
          ["c", "gone"],
        ],
      );
    });

    test("the include path's task hides lm_eval's own of that name", async () => {
      await using suite = await localSuite({ "arc.yaml": mc("arc_easy") });
      const local = await plan(["arc_easy", "sciq"], { include_path: suite.path });
      assert.deepEqual(
        local.leaves.map(({ source }) => source.yaml_path.startsWith(suite.path)),
        [true, false],
      );
    });

    test("sees a changed, a new and a removed file, also one that is only included", async () => {
      await using suite = await localSuite({
        "a.yaml": mc("first", "include: base"),
        base: "tag: old",
      });
      const at = { include_path: suite.path, cache_dir: indexCache };
      assert.deepEqual((await plan(["old"], at)).unknown, []);
      await writeFile(join(suite.path, "base"), "tag: new_tag");
      await writeFile(join(suite.path, "b.yaml"), mc("second"));
      const planned = await plan(["new_tag", "second", "old"], at);
      assert.deepEqual(
        planned.unknown.map(({ name }) => name),
        ["old"],
      );
    });

    test("keeps what task files say, also what JSON has no word for, until they change", async () => {
      await using suite = await localSuite({
        base: "metric_list: [{metric: !function functions.score, since: 2024-01-02}, {3: .inf}]",
        "a.yaml": mc("first", "include: base", "num_fewshot: 3"),
      });
      const at = { include_path: suite.path, cache_dir: join(suite.path, "cache") };
      const planned = await plan(["first"], at);
      assert.deepEqual(await plan(["first"], at), planned);
      // As a job computes it, from the file.
      const leaf = leafOf(planned, "first");
      assert.deepEqual(await python?.call("fingerprint", "task_inputs", [leaf]), leaf.inputs);
      // Behind its back.
      const [name = ""] = (await readdir(at.cache_dir)).filter((file) => file.startsWith("suite-"));
      const kept = join(at.cache_dir, name);
      const text = await readFile(kept, "utf8");
      await writeFile(kept, text.replace('"num_fewshot":3', '"num_fewshot":5'));
      assert.equal(leafOf(await plan(["first"], at), "first").num_fewshot, 5);
      // As a copy that keeps times does, at the same size.
      await suite.write("a.yaml", mc("first", "include: base", "num_fewshot: 7"), longAgo);
      assert.equal(leafOf(await plan(["first"], at), "first").num_fewshot, 7);
    });

    test("takes a file that may still change within one step of its clock for another one each time", async () => {
      await using suite = await localSuite({ "a.yaml": mc("first") });
      const path = join(suite.path, "a.yaml");
      const stamps = async () => [await stamp(path), await stamp(path)] as const;
      const stamp = (file: string) => python?.call("source", "stamp_of_file", [file]);
      const [old, same] = await stamps();
      assert.ok(old);
      assert.deepEqual(old, same);
      // Now, by the clock of test/fixtures/tasks/later.py.
      await utimes(path, Date.now() / 1000 + 3600, Date.now() / 1000 + 3600);
      assert.notDeepEqual(...(await stamps()));
    });

    test("follows a link that leads to another version of what is included", async () => {
      await using suite = await localSuite({ "a.yaml": mc("first", "include: common/base") });
      for (const [version, shots] of [
        ["v1", 3],
        ["v2", 5],
      ] as const) {
        await mkdir(join(suite.path, version));
        await suite.write(`${version}/shots`, `num_fewshot: ${shots}`, longAgo);
      }
      // One file in both, as in copies that share what is the same.
      await suite.write("v1/base", "include: shots", longAgo);
      await link(join(suite.path, "v1/base"), join(suite.path, "v2/base"));
      const at = { include_path: suite.path, cache_dir: join(suite.path, "cache") };
      const seen: number[] = [];
      for (const version of ["v1", "v2"]) {
        await rm(join(suite.path, "common"), { force: true });
        await symlink(version, join(suite.path, "common"));
        seen.push(leafOf(await plan(["first"], at), "first").num_fewshot);
      }
      assert.deepEqual(seen, [3, 5]);
    });

    test("keeps no file under the stamp of one that replaced it while it was read", async () => {
      assert.ok(pythonPath);
      await using suite = await localSuite({ "task.yaml": "task: old", replacement: "task: new" });
      assert.deepEqual(
        runTaskScript(pythonPath, "replaced_while_read.py", [
          suite.path,
          join(suite.path, "cache"),
        ]),
        [["old"], ["new"], ["new"]],
      );
    });

    test("reads a file again whose include was broken and is mended", async () => {
      await using suite = await localSuite({ "a.yaml": mc("first", "include: base"), base: "]" });
      const at = { include_path: suite.path, cache_dir: join(suite.path, "cache") };
      assert.match((await plan([], at)).warnings.join(), /Cannot read task file ".*a\.yaml"/);
      await suite.write("base", "num_fewshot: 3", longAgo);
      assert.equal(leafOf(await plan(["first"], at), "first").num_fewshot, 3);
    });

    test("plans beside files that say what can't be kept, if nobody asks for them", async () => {
      await using suite = await localSuite({
        "a.yaml": mc("first"),
        "b.yaml": mc("mark", 'metadata: {"!function": x}'),
        "c.yaml": mc("endless", "metadata: &m {again: *m}"),
        "d.yaml": mc("dated", "tag: [2024-01-02]"),
        "e.yaml": mc("numbered", "tag: 3"),
      });
      const at = { include_path: suite.path, cache_dir: join(suite.path, "cache") };
      const planned = await plan(["first"], at);
      assert.equal(leafOf(planned, "first").num_fewshot, 0);
      assert.match(planned.warnings.join(), /^Cannot read task file "[^"]*e\.yaml"[^"]*$/);
    });

    test("refuses arguments that lm_eval would refuse in every job", async () => {
      const given = { model_args: {}, lm_eval_args: { num_fewshoot: 2 } };
      await assert.rejects(
        plan(["mc_a"], { evaluations: { big: given } }),
        /profile "big".*num_fewshoot/s,
      );
    });
  });
}

type Outline = string | [string, ...Outline[]];

/** Names alone; a leaf under the leaf's own name, without the suite's. */
function outline(node: SuiteNode): Outline[] {
  return node.children.map((child) =>
    child.kind === "leaf" ? child.name : [child.name, ...outline(child)],
  );
}

function mc(name: string, ...more: string[]): string {
  return [
    `task: ${name}`,
    "dataset_path: json",
    "test_split: test",
    "output_type: multiple_choice",
    'doc_to_text: "{{q}}"',
    "doc_to_choice: choices",
    "doc_to_target: label",
    ...more,
  ].join("\n");
}

/** Seconds: a time at which the next write is another one on any file system. */
const longAgo = 1_000_000_000;

async function localSuite(files: Readonly<Record<string, string>>) {
  const directory = await temporaryDirectory();
  await mkdir(join(directory.path, "cache"));
  const write = async (name: string, text: string, at: number): Promise<void> => {
    await writeFile(join(directory.path, name), text);
    await utimes(join(directory.path, name), at, at);
  };
  for (const [name, text] of Object.entries(files)) await write(name, text, longAgo);
  return { ...directory, write };
}
