import assert from "node:assert/strict";
import { chmod, mkdir, symlink, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, test } from "node:test";
import { identifyServer, type ServerFacts } from "../../src/agent/server-identity.ts";
import { temporaryDirectory } from "../support/temporary.ts";

interface Changes {
  readonly cwd?: string;
  readonly command?: string;
  readonly env_vars?: Readonly<Record<string, string>>;
  readonly env?: NodeJS.ProcessEnv;
  readonly share?: readonly string[];
  readonly models?: readonly string[];
}

const command = 'serve "${EH_MODEL_PATH}" --port ${EH_PORT} --tp $TP';

function factsOf(path: string, changes: Changes = {}): ServerFacts {
  const env_vars = changes.env_vars ?? {
    ADDRESS: "h:${EH_PORT}",
    NEXT: "${ADDRESS}/v1",
    MODE: "a",
  };
  const env = {
    EH_MODEL_PATH: path,
    EH_PORT: "1",
    ADDRESS: "h:1",
    NEXT: "h:1/v1",
    MODE: "a",
    TP: "2",
  };
  return {
    spec: {
      command: changes.command ?? command,
      cwd: changes.cwd ?? "/none",
      env: { EH_MODEL_PATH: path },
      env_vars,
    },
    env: { ...env, ...changes.env },
    share: changes.share ?? [],
    models: changes.models ?? ["m"],
  };
}

describe("the identity of a server", () => {
  test("is the same at another port, in another place of its node, and in another life", async () => {
    const facts = (changes: Changes) => identifyServer(factsOf("/none", changes));
    const known = await facts({});
    const elsewhere = {
      EH_PORT: "2",
      ADDRESS: "h:2",
      NEXT: "h:2/v1",
      UNRELATED: "x",
      EH_SERVER_ID: "3",
    };
    assert.equal(await facts({ env: elsewhere }), known);
    const devices = { command: `${command} --on $CUDA_VISIBLE_DEVICES` };
    const share = ["CUDA_VISIBLE_DEVICES"];
    assert.equal(
      await facts({ ...devices, share, env: { CUDA_VISIBLE_DEVICES: "0" } }),
      await facts({ ...devices, share, env: { CUDA_VISIBLE_DEVICES: "1" } }),
    );
  });

  test("is the same in another job, on another node, also in what is made of their names", async () => {
    const env_vars = { CACHE: "$TMPDIR/${SLURM_JOB_ID}", LOG: "${CACHE}/log", MODE: "a" };
    const inJob = async (job: string) => {
      const scratch = { TMPDIR: `/tmp/${job}`, CACHE: `/tmp/${job}/${job}`, LOG: `${job}/log` };
      const env = { ...scratch, SLURM_JOB_ID: job, SLURMD_NODENAME: `n${job}` };
      const logs = `${command} --log $SLURMD_NODENAME.log`;
      return await identifyServer(factsOf("/none", { command: logs, env_vars, env }));
    };
    assert.equal(await inJob("1"), await inJob("2"));
  });

  test("is another one where the job has other devices for a server", async () => {
    const having = async (devices: string) => {
      const spread = `${command} --tensor-parallel-size $SLURM_GPUS_ON_NODE`;
      const env = { SLURM_GPUS_ON_NODE: devices };
      return await identifyServer(factsOf("/none", { command: spread, env }));
    };
    assert.notEqual(await having("2"), await having("8"));
  });

  test("is another one for another command, value, list of models or path", async () => {
    const changes: Changes[] = [
      {},
      { command: `${command} --seed 1` },
      { env: { TP: "4" } },
      { env: { MODE: "b" } },
      { env_vars: { MODE: "a" } },
      { models: ["n"] },
    ];
    const all = await Promise.all(
      changes.map((change) => identifyServer(factsOf("/none", change))),
    );
    all.push(await identifyServer(factsOf("/none/else")));
    assert.equal(new Set(all).size, changes.length + 1);
  });

  test("is another one when a file of the weights is another one", async () => {
    await using directory = await temporaryDirectory();
    const file = join(directory.path, "part/weights");
    await mkdir(join(directory.path, "part"));
    const seen: string[] = [];
    const look = async () => void seen.push(await identifyServer(factsOf(directory.path)));
    await writeFile(file, "1234");
    await utimes(file, 1, 1);
    await look();
    await look();
    assert.equal(seen[0], seen[1]);
    await utimes(file, 1, 2);
    await look();
    await writeFile(file, "12345");
    await utimes(file, 1, 2);
    await look();
    await writeFile(join(directory.path, "more"), "");
    await look();
    assert.equal(new Set(seen).size, 4);
    const [single, other] = [
      await identifyServer(factsOf(file)),
      await identifyServer(factsOf(`${file}-none`)),
    ];
    assert.notEqual(single, other);
  });

  test("is another one when a script that its command names is edited, wherever it lies; logs do not count", async () => {
    await using directory = await temporaryDirectory();
    const cwd = directory.path;
    const command = `bash "serve.sh" --chat-template="$EH_MODEL_PATH/chat.jinja" > $EH_MODEL_PATH/out.log`;
    const files = ["serve.sh", "chat.jinja", "out.log"];
    const look = async () => {
      const facts = factsOf("/none", { command, cwd, env: { EH_MODEL_PATH: cwd } });
      return await identifyServer(facts);
    };
    const seen: string[] = [];
    for (const file of files) await writeFile(join(cwd, file), "1");
    for (const file of files) {
      seen.push(await look());
      await utimes(join(cwd, file), 1, 1);
      assert.equal(await look(), seen.at(-1));
      await writeFile(join(cwd, file), "2");
    }
    seen.push(await look());
    assert.equal(new Set(seen).size, 3);
    assert.equal(seen[2], seen[3]);
  });

  test("sees weights at a path that begins where its command runs", async () => {
    await using directory = await temporaryDirectory();
    const facts = factsOf("weights", { cwd: directory.path });
    await writeFile(join(directory.path, "weights"), "1234");
    const before = await identifyServer(facts);
    await writeFile(join(directory.path, "weights"), "12345");
    assert.notEqual(await identifyServer(facts), before);
  });

  test("sees weights beside a directory that is closed to it, and where links lead in circles", async () => {
    await using directory = await temporaryDirectory();
    const [file, closed] = [join(directory.path, "weights"), join(directory.path, "closed")];
    await writeFile(file, "1234");
    await mkdir(closed, { mode: 0 });
    await symlink(".", join(directory.path, "here"));
    await chmod(directory.path, 0o755);
    const look = async () => {
      // Modes don't stop root.
      const user = process.geteuid?.();
      if (user === 0) process.seteuid?.(65_534);
      try {
        return await identifyServer(factsOf(directory.path));
      } finally {
        if (user === 0) process.seteuid?.(0);
      }
    };
    const before = await look();
    assert.equal(await look(), before);
    await writeFile(file, "12345");
    assert.notEqual(await look(), before);
  });
});
