import assert from "node:assert/strict";
import { access, mkdir, readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, test } from "node:test";
import type { JournalFiles } from "../../src/agent/balancer-client.ts";
import {
  type JournalLeaf,
  journalsRoot,
  openRequestJournals,
  type RequestJournals,
  sweepRoot,
} from "../../src/agent/request-journals.ts";
import type { WorkUnit } from "../../src/agent/unit.ts";
import type { Fingerprint, LeafId, OwnerId } from "../../src/run/ids.ts";
import { RunLayout } from "../../src/run/layout.ts";
import { temporaryDirectory } from "../support/temporary.ts";

interface Opened extends JournalFiles {
  readonly account: string;
  readonly leaf: number;
}

interface Scene extends AsyncDisposable {
  /** Holds the units' directories. */
  readonly root: string;
  readonly directory: string;
  readonly journals: RequestJournals;
  readonly opened: Opened[];
  readonly closed: string[];
  readonly off: string[];
  open(account: string, ...leaves: JournalLeaf[]): Promise<Opened[]>;
  /** A file of this name and size. */
  write(name: string, bytes?: number): Promise<string>;
}

function leafOf(id: string, digit = "a"): JournalLeaf {
  return { id: id as LeafId, fingerprint: `fp1:${digit.repeat(64)}` as Fingerprint };
}

const fp = (digit = "a") => digit.repeat(12);

async function openScene(limitBytes = 1_000): Promise<Scene> {
  const temporary = await temporaryDirectory();
  const root = join(temporary.path, "journals");
  const directory = join(root, "unit--main");
  const opened: Opened[] = [];
  const closed: string[] = [];
  const off: string[] = [];
  const journals = openRequestJournals({
    directory,
    owner: "local-1" as OwnerId,
    limitBytes,
    balancer: {
      openJournal: (account, leaf, files) => void opened.push({ account, leaf, ...files }),
      closeJournals: async (account, leaf) => void closed.push(`${account} ${leaf ?? "all"}`),
    },
  });
  return {
    root,
    directory,
    journals,
    opened,
    closed,
    off,
    open: async (account, ...leaves) => {
      const from = opened.length;
      await journals.open(account, leaves, (leaf, reason) => void off.push(`${leaf}: ${reason}`));
      return opened.slice(from);
    },
    write: async (name, bytes = 1) => {
      await mkdir(directory, { recursive: true });
      await writeFile(join(directory, name), "x".repeat(bytes));
      return join(directory, name);
    },
    [Symbol.asyncDispose]: () => temporary[Symbol.asyncDispose](),
  };
}

describe("the request journals of a unit", () => {
  test("give a leaf what was kept of it under the same fingerprint, by whomever", async () => {
    await using at = await openScene();
    const first = await at.write(`x.${fp()}.local-0-r1.0`);
    const second = await at.write(`x.${fp()}.slurm-7-r2.1`);
    await at.write(`x.${fp("b")}.local-0-r1.0`);
    await at.write(`x.y.${fp()}.local-0-r1.0`);
    await at.write("x.something-else");
    const [x, z] = await at.open("r3", leafOf("x"), leafOf("z"));
    assert.deepEqual([x?.account, x?.leaf, z?.leaf], ["r3", 0, 1]);
    assert.deepEqual([x?.read, z?.read], [[first, second], []]);
    assert.equal(x?.write, join(at.directory, `x.${fp()}.local-1-r3`));
  });

  test("share what the unit may have, less what lies there; a leaf has a quarter of it, less its own", async () => {
    await using at = await openScene(1_000);
    await at.write(`x.${fp()}.local-0-r1.0`, 100);
    await at.write(`y.${fp()}.local-0-r1.0`, 200);
    const [x] = await at.open("r1", leafOf("x"));
    assert.deepEqual([x?.limitBytes, x?.budget.limitBytes], [150, 700]);
    // What is being written counts at the balancer.
    await at.write(`x.${fp()}.local-1-r1.0`, 50);
    const [z] = await at.open("r2", leafOf("z"));
    assert.deepEqual([z?.limitBytes, z?.budget], [250, x?.budget]);
    await at.journals.close("r1");
    const [again] = await at.open("r3", leafOf("x"));
    assert.deepEqual([again?.limitBytes, again?.budget.limitBytes], [100, 650]);
  });

  test("of a leaf are removed when it is dropped, once nothing is written any more", async () => {
    await using at = await openScene();
    await at.write(`x.${fp()}.local-0-r1.0`);
    await at.open("r3", leafOf("y"), leafOf("x"));
    await at.write(`x.${fp()}.local-1-r3.0`);
    await at.write(`y.${fp()}.local-1-r3.0`);
    await at.journals.drop("r3", 1, leafOf("x"));
    assert.deepEqual(at.closed, ["r3 1"]);
    assert.deepEqual(await readdir(at.directory), [`y.${fp()}.local-1-r3.0`]);
  });

  test("are swept but for those of open leaves, and leave no empty directory", async () => {
    await using at = await openScene();
    await at.write(`x.${fp()}.local-0-r1.0`);
    await at.write(`x.${fp("b")}.local-0-r1.0`);
    await at.write(`y.${fp()}.local-0-r1.0`);
    await at.journals.sweep([leafOf("y")]);
    assert.deepEqual(await readdir(at.directory), [`y.${fp()}.local-0-r1.0`]);
    await at.journals.sweep([]);
    await assert.rejects(access(at.root));
    await at.journals.sweep([]);
  });

  test("are swept for each unit below a run's place, but for those that nobody knows", async () => {
    await using at = await openScene();
    await at.write(`x.${fp()}.local-0-r1.0`);
    await at.write(`y.${fp()}.local-0-r1.0`);
    for (const unit of ["done--main", "unknown--main"]) {
      await mkdir(join(at.root, unit));
      await writeFile(join(at.root, unit, `x.${fp()}.local-0-r1.0`), "");
    }
    const open = { "unit--main": [leafOf("y")], "done--main": [], "unknown--main": undefined };
    await sweepRoot(at.root, async (unit) => open[unit as keyof typeof open]);
    assert.deepEqual((await readdir(at.root)).sort(), ["unit--main", "unknown--main"]);
    assert.deepEqual(await readdir(at.directory), [`y.${fp()}.local-0-r1.0`]);
    assert.equal((await readdir(join(at.root, "unknown--main"))).length, 1);
    await sweepRoot(at.root, async () => []);
    await assert.rejects(access(at.root));
  });

  test("lie where the config says, or in the run directory where a node has no such variable", async () => {
    const rootFor = async (directory: string | null, env: NodeJS.ProcessEnv) => {
      const plan = { working_directory: "/", run_id: "run" };
      const unit = { profile: { journal: { directory } }, layout: new RunLayout("/runs/a"), plan };
      const path = { PATH: process.env["PATH"], ...env };
      return await journalsRoot(unit as unknown as WorkUnit, path, new AbortController().signal);
    };
    assert.equal(await rootFor(null, {}), "/runs/a/journals");
    assert.equal(await rootFor("${SCRATCH}", { SCRATCH: "/scratch" }), "/scratch/run");
    assert.equal(await rootFor("kept", {}), "/kept/run");
    assert.equal(await rootFor("${SCRATCH}", {}), "/runs/a/journals");
  });

  test("that can't be listed fail nothing, and it is said", async () => {
    await using at = await openScene();
    await mkdir(at.root, { recursive: true });
    await writeFile(at.directory, "no directory");
    assert.deepEqual(await at.open("r1", leafOf("x")), []);
    assert.match(at.off.join(), /^x: .*ENOTDIR/);
    await at.journals.drop("r1", 0, leafOf("x"));
  });
});
