import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdir, readdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, test } from "node:test";
import { requirePython, root } from "../support/require.ts";
import { temporaryDirectory } from "../support/temporary.ts";

/** Asks as transformers does when it is imported, and changes what it gets. */
const script = `
import json, sys
from eval_hive_harness.transformers_exports import default_directory, remember_exports
remember_exports(default_directory())
import transformers
print(json.dumps(transformers.seen))
`;

const package_ = {
  "transformers/__init__.py": `
from pathlib import Path
from .utils.import_utils import define_import_structure, reads
models = Path(__file__).parent / "models"
def asked(path, prefix=None):
    exports = define_import_structure(path, prefix)
    seen = sorted([sorted(backends), sorted((module, sorted(names)) for module, names in modules.items())]
        for backends, modules in exports.items())
    exports[frozenset()].update({"more": {"More"}})
    exports[frozenset()].popitem()
    for names in exports[frozenset({"torch"})].values(): names.clear()
    return seen
seen = {
    "prefixed": asked(models, prefix="models"),
    "plain": asked(str(models / "__init__.py")),
    "elsewhere": asked(str(models / "auto")),
    "reads": reads,
}
`,
  "transformers/utils/__init__.py": "",
  "transformers/utils/import_utils.py": `
import os
reads = []
def define_import_structure(module_path, prefix=None):
    module_path = os.fspath(module_path).removesuffix("/__init__.py")
    reads.append(os.path.basename(module_path))
    with open(os.path.join(module_path, "names.txt")) as stream:
        names = set(stream.read().split())
    dot = "" if prefix is None else prefix + "."
    return {frozenset(): {dot + "a.configuration_a": {"AConfig"}}, frozenset({"torch"}): {dot + "a.modeling_a": names}}
`,
  "transformers/models/names.txt": "A AHead",
  "transformers/models/auto/names.txt": "Auto",
};
const metadata = {
  "transformers-9.1.dist-info/METADATA":
    "Metadata-Version: 2.1\nName: transformers\nVersion: 9.1\n",
  "transformers-9.1.dist-info/RECORD": "transformers/__init__.py,,\n",
};

interface Seen {
  readonly prefixed: unknown;
  readonly plain: unknown;
  readonly elsewhere: unknown;
  /** Whose files were read. */
  readonly reads: readonly string[];
}

const first = { reads: ["models", "auto"] };
const again = { reads: ["auto"] };
const without = { reads: ["models", "models", "auto"] };
const answers = (names: readonly string[]) => ({
  prefixed: [
    [[], [["models.a.configuration_a", ["AConfig"]]]],
    [["torch"], [["models.a.modeling_a", names]]],
  ],
  plain: [
    [[], [["a.configuration_a", ["AConfig"]]]],
    [["torch"], [["a.modeling_a", names]]],
  ],
  elsewhere: [
    [[], [["a.configuration_a", ["AConfig"]]]],
    [["torch"], [["a.modeling_a", ["Auto"]]]],
  ],
});
const answer = answers(["A", "AHead"]);

async function installFake(files: Readonly<Record<string, string>>) {
  const directory = await temporaryDirectory();
  const site = join(directory.path, "site");
  const write = async (texts: Readonly<Record<string, string>>): Promise<void> => {
    for (const [name, text] of Object.entries(texts)) {
      await mkdir(join(site, name, ".."), { recursive: true });
      await writeFile(join(site, name), text);
    }
  };
  await write(files);
  const cache = join(directory.path, "cache");
  return {
    site,
    cache,
    write,
    ask: (python: string, env: NodeJS.ProcessEnv = {}): Seen =>
      JSON.parse(
        execFileSync(python, ["-B", "-c", script], {
          encoding: "utf8",
          cwd: directory.path,
          env: {
            PYTHONPATH: `${site}:${join(root, "harness")}`,
            EVAL_HIVE_IMPORT_CACHE: cache,
            ...env,
          },
        }),
      ),
    [Symbol.asyncDispose]: () => directory[Symbol.asyncDispose](),
  };
}

describe("what transformers exports", () => {
  test("is read once for an installation, and no answer is another's", async (t) => {
    const python = requirePython(t);
    if (python === undefined) return;
    await using fake = await installFake({ ...package_, ...metadata });
    assert.deepEqual(fake.ask(python), { ...answer, ...first });
    assert.deepEqual(fake.ask(python), { ...answer, ...again });
    assert.equal((await readdir(fake.cache)).length, 1);
  });

  test("is read again when something else was installed", async (t) => {
    const python = requirePython(t);
    if (python === undefined) return;
    await using fake = await installFake({ ...package_, ...metadata });
    fake.ask(python);
    await fake.write({
      "transformers/models/names.txt": "B",
      "transformers-9.1.dist-info/RECORD": "transformers/__init__.py,,\ntransformers/b.py,,\n",
    });
    assert.deepEqual(fake.ask(python), { ...answers(["B"]), ...first });
    assert.deepEqual(fake.ask(python), { ...answers(["B"]), ...again });
  });

  test("is not remembered of a checkout", async (t) => {
    const python = requirePython(t);
    if (python === undefined) return;
    await using fake = await installFake(package_);
    assert.deepEqual(fake.ask(python), { ...answer, ...without });
    await assert.rejects(readdir(fake.cache), { code: "ENOENT" });
  });

  test("is read where it can't be kept, or what was kept is spoiled", async (t) => {
    const python = requirePython(t);
    if (python === undefined) return;
    await using fake = await installFake({ ...package_, ...metadata });
    const file = join(fake.site, "transformers/models/names.txt");
    assert.deepEqual(fake.ask(python, { EVAL_HIVE_IMPORT_CACHE: file }), { ...answer, ...first });
    assert.deepEqual(fake.ask(python, { EVAL_HIVE_IMPORT_CACHE: "x" }), { ...answer, ...without });
    fake.ask(python);
    const [kept = ""] = await readdir(fake.cache);
    for (const text of ['{"seal":', "[]", '{"exports":[]}']) {
      await rm(join(fake.cache, kept));
      await writeFile(join(fake.cache, kept), text);
      assert.deepEqual(fake.ask(python), { ...answer, ...first }, text);
    }
  });

  test("is what the installed transformers itself finds", async (t) => {
    const python = requirePython(t);
    if (python === undefined) return;
    await using directory = await temporaryDirectory();
    const compare = `
import json, os, sys
from eval_hive_harness.transformers_exports import remember_exports
remember_exports(sys.argv[1])
import transformers
from transformers.utils import import_utils
models = os.path.join(os.path.dirname(import_utils.__file__), "..", "models")
own = import_utils.spread_import_structure(import_utils.create_import_structure_from_path(models))
models = os.path.normpath(models)
prefixed = {backends: {f"models.{module}": names for module, names in of.items()} for backends, of in own.items()}
print(json.dumps([
    import_utils.define_import_structure(models) == own,
    import_utils.define_import_structure(models, prefix="models") == prefixed,
    len(own),
]))
`;
    const said = execFileSync(python, ["-B", "-c", compare, directory.path], {
      encoding: "utf8",
      env: { PYTHONPATH: join(root, "harness"), TRANSFORMERS_VERBOSITY: "error" },
    });
    const [same, samePrefixed, backends] = JSON.parse(said) as [boolean, boolean, number];
    assert.deepEqual([same, samePrefixed], [true, true]);
    assert.ok(backends > 1);
    assert.equal((await readdir(directory.path)).length, 1);
  });
});
