import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { nearestName } from "../../src/base/nearest.ts";
import { Config } from "../../src/config/schema.ts";

const keys = Object.keys(Config.shape);

describe("the nearest name", () => {
  test("is the one that was mistyped", () => {
    for (const [wrong, right] of [
      ["partiton", "partition"],
      ["acount", "account"],
      ["paralleltasks", "parallel_tasks"],
      ["parallel-tasks", "parallel_tasks"],
      ["Parallel_Tasks", "parallel_tasks"],
      ["time_limt", "time_limit"],
      ["timelimit", "time_limit"],
      ["cpus", "cpus_per_node"],
      ["gres", "gres_per_node"],
      ["env_var", "env_vars"],
      ["server_command", "inference_server_command"],
      ["health_check_max_wait_minuets", "health_check_max_wait_minutes"],
      ["model", "models"],
    ] as const) {
      assert.equal(nearestName(wrong, keys), right, wrong);
    }
  });

  test("is none where nothing is near", () => {
    for (const wrong of ["colour", "x", "foo", "learning_rate", ""]) {
      assert.equal(nearestName(wrong, keys), undefined, wrong);
    }
  });

  test("is found after any one edit of a long key", () => {
    const long = keys.filter((key) => key.length >= 6);
    fc.assert(
      fc.property(fc.constantFrom(...long), fc.nat(), fc.constantFrom(..."aeixz_"), (key, n, c) => {
        const at = n % key.length;
        const edits = [
          key.slice(0, at) + key.slice(at + 1),
          key.slice(0, at) + c + key.slice(at + 1),
          key.slice(0, at) + c + key.slice(at),
        ];
        for (const edited of edits) {
          if (!keys.includes(edited)) assert.equal(nearestName(edited, keys), key, edited);
        }
      }),
    );
  });
});
