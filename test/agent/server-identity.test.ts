import assert from "node:assert/strict";
import { mkdir, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, test } from "node:test";
import { identifyServer, type ServerFacts } from "../../src/agent/server-identity.ts";
import { temporaryDirectory } from "../support/temporary.ts";

interface Changes {
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
    spec: { command: changes.command ?? command, env: { EH_MODEL_PATH: path }, env_vars },
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
});
