import assert from "node:assert/strict";
import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { test } from "node:test";
import { storeTravelling } from "../../src/controller/store.ts";
import { temporaryDirectory } from "../support/temporary.ts";

test("agent and harness are kept once per content, whoever is first", async () => {
  await using directory = await temporaryDirectory();
  const harnessDirectory = join(directory.path, "checkout/harness");
  const agentFile = join(directory.path, "checkout/agent.mjs");
  await mkdir(join(harnessDirectory, "package/__pycache__"), { recursive: true });
  await writeFile(agentFile, "agent 1");
  await writeFile(join(harnessDirectory, "package/main.py"), "print(1)");
  await writeFile(join(harnessDirectory, "package/__pycache__/main.pyc"), "compiled");
  const run = join(directory.path, "runs/my-run");

  const from = { agentFile, harnessDirectory };
  const stores = await Promise.all([1, 2, 3].map(() => storeTravelling(run, from)));
  const [store = ""] = stores;
  assert.equal(new Set(stores).size, 1);
  assert.equal(await readFile(join(store, "agent.mjs"), "utf8"), "agent 1");
  assert.deepEqual(await readdir(join(store, "harness"), { recursive: true }), [
    "package",
    "package/main.py",
  ]);

  await writeFile(agentFile, "agent 2");
  const upgraded = await storeTravelling(run, from);
  assert.notEqual(upgraded, store);
  assert.equal(await readFile(join(store, "agent.mjs"), "utf8"), "agent 1");
  assert.deepEqual(
    (await readdir(join(directory.path, "runs/.eval-hive"))).sort(),
    [basename(store), basename(upgraded)].sort(),
  );
});

test("an agent that was not built is named with the command that builds it", async () => {
  await using directory = await temporaryDirectory();
  const from = { agentFile: join(directory.path, "agent.mjs"), harnessDirectory: directory.path };
  await assert.rejects(storeTravelling(join(directory.path, "run"), from), {
    code: "install.agent",
  });
});
