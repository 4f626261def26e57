import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { logNames } from "../../src/agent/agent-logs.ts";
import {
  childEnvironment,
  evaluationVariables,
  harnessEnvironment,
} from "../../src/agent/environment.ts";
import { workUnit } from "../../src/agent/unit.ts";
import { serverSpecs } from "../../src/agent/unit-servers.ts";
import type { OwnerId } from "../../src/run/ids.ts";
import { RunLayout } from "../../src/run/layout.ts";
import type { PlannedUnit, Profile } from "../../src/run/plan.ts";
import { syntheticPlan } from "../support/synthetic-run.ts";

const owner = "local-p1-00000001" as OwnerId;
const { signal } = new AbortController();
const base: NodeJS.ProcessEnv = { PATH: process.env["PATH"], https_proxy: "http://proxy:1" };

const plan = syntheticPlan({ directory: "/", units: 1, leaves: 1 });
const profile = plan.profiles["default"] as Profile;

function unitWith(changes: Partial<Profile>) {
  const changed = { ...plan, profiles: { default: { ...profile, ...changes } } };
  const entry = {
    model_key: "model",
    label: "step_0",
    step: 0,
    model_path: "/models/step 0",
    display_name: "Model",
    train_batch_size: null,
    tokens_trained: null,
  };
  const planned = plan.units[0] as PlannedUnit;
  return workUnit(new RunLayout("/run"), changed, planned, entry, new Map());
}

test("what an agent starts carries its owner, and nothing that makes it one of many ranks", () => {
  const given = {
    ...base,
    ...{ RANK: "3", LOCAL_RANK: "1", WORLD_SIZE: "8", LOCAL_WORLD_SIZE: "4", NODE_RANK: "0" },
    ...{ MASTER_ADDR: "n1", MASTER_PORT: "1", NODE_OPTIONS: "--inspect", NODE_USE_ENV_PROXY: "1" },
    ...{ SLURM_PROCID: "3", CUDA_VISIBLE_DEVICES: "0" },
  };
  assert.deepEqual(childEnvironment(given, owner), {
    ...base,
    SLURM_PROCID: "3",
    CUDA_VISIBLE_DEVICES: "0",
    EH_OWNER: owner,
    UV_THREADPOOL_SIZE: "16",
  });
});

describe("the harness's environment", () => {
  const switches = [
    "HF_HUB_OFFLINE",
    "HF_DATASETS_OFFLINE",
    "TRANSFORMERS_OFFLINE",
    "HF_EVALUATE_OFFLINE",
  ];
  for (const [offline, isLocal, off] of [
    ["auto", true, false],
    ["auto", false, true],
    ["always", true, true],
    ["never", false, false],
  ] as const) {
    const where = isLocal ? "on this machine" : "in a job";
    test(`is ${off ? "off" : "on"} the network ${where} with offline: ${offline}`, async () => {
      const given = { ...profile, offline };
      const env = await harnessEnvironment(base, given, { isLocal, cwd: "/", signal });
      for (const name of switches) assert.equal(env[name], off ? "1" : undefined, name);
      // Online the Hub may be behind the proxy.
      assert.equal(env["https_proxy"], off ? undefined : "http://proxy:1");
    });
  }

  test("has the config's variables, which win over the switches", async () => {
    const env_vars = { HF_HUB_OFFLINE: "0", HF_HOME: "$(echo /scratch)/hf", DEEP: "${HF_HOME}/x" };
    const given = { ...profile, env_vars };
    const env = await harnessEnvironment(base, given, { isLocal: false, cwd: "/", signal });
    assert.deepEqual(
      [env["HF_HUB_OFFLINE"], env["HF_DATASETS_OFFLINE"], env["HF_HOME"], env["DEEP"]],
      ["0", "1", "/scratch/hf", "/scratch/hf/x"],
    );
  });
});

test("an evaluation knows its unit, also in the config's variables, and the balancer as EH_PORT", async () => {
  const unit = unitWith({ env_vars: { CACHE: "/cache/${EH_TASK_KEY}/${EH_PORT}" } });
  assert.deepEqual(await evaluationVariables(base, unit, { port: 4242, signal }), {
    CACHE: "/cache/model--step_0/4242",
    EH_TASK_KEY: "model--step_0",
    EH_MODEL_KEY: "model",
    EH_LABEL: "step_0",
    EH_MODEL_PATH: "/models/step 0",
    EH_PORT: "4242",
  });
  assert.equal(
    (await evaluationVariables(base, unit, { port: undefined, signal }))["EH_PORT"],
    undefined,
  );
});

describe("the servers of a unit", () => {
  const logs = logNames(new RunLayout("/run"), "my job", "77");

  test("are none when lm_eval loads the model itself", () => {
    assert.deepEqual(serverSpecs(unitWith({ server_command: null }), logs), []);
  });

  test("are known by all that decides about them: an equal one is kept, another one is not", () => {
    const key = (changes: Partial<Profile>) => serverSpecs(unitWith(changes), logs)[0]?.key;
    assert.equal(key({}), key({ slots: 9, request_timeout_s: 1 }));
    for (const changes of [
      { server_command: "other" },
      { env_vars: { A: "1" } },
      { health_check_max_wait_s: 1 },
      { model_args: { model: "other" } },
    ]) {
      assert.notEqual(key(changes), key({}), JSON.stringify(changes));
    }
  });

  test("have logs named after job, unit and job id", () => {
    const [spec] = serverSpecs(unitWith({}), logs);
    assert.equal(spec?.log_prefix, "/run/logs/my-job-model--step_0-77-server-0");
  });

  test("will be asked for the model that the config names, where that can be known here", () => {
    const model = (value: unknown) =>
      serverSpecs(unitWith({ model_args: { model: value } }), logs)[0]?.model;
    assert.equal(model("${EH_MODEL_PATH}"), "/models/step 0");
    assert.equal(model("$EH_MODEL_KEY/${EH_LABEL}"), "model/step_0");
    assert.equal(model("fixed"), "fixed");
    assert.equal(model("${HOSTNAME}"), null);
    assert.equal(model(undefined), null);
  });
});
