import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { shareOfNode } from "../../src/agent/node-share.ts";

const node = { cpus: 32, isRocm: false };

/** What each of `of` servers gets of one variable. */
function shares(name: string, env: NodeJS.ProcessEnv, of: number, isRocm = false) {
  return Array.from({ length: of }, (_, index) => {
    const changed = shareOfNode(env, { index, of }, { ...node, isRocm });
    return name in changed ? changed[name] : env[name];
  });
}

describe("of servers that share a node", () => {
  test("each gets devices of its own, neighbours together, whatever they are called", () => {
    const divided = (list: string, of: number) =>
      shares("CUDA_VISIBLE_DEVICES", { CUDA_VISIBLE_DEVICES: list }, of);
    assert.deepEqual(divided("0,1,2,3", 2), ["0,1", "2,3"]);
    assert.deepEqual(divided("4,5,6,7", 4), ["4", "5", "6", "7"]);
    assert.deepEqual(divided("GPU-8a,GPU-9b", 2), ["GPU-8a", "GPU-9b"]);
    assert.deepEqual(divided("MIG-1,MIG-2,MIG-3", 3), ["MIG-1", "MIG-2", "MIG-3"]);
  });

  test("none gets more than another; where there are fewer devices than servers, they are shared", () => {
    const divided = (list: string, of: number) =>
      shares("CUDA_VISIBLE_DEVICES", { CUDA_VISIBLE_DEVICES: list }, of);
    assert.deepEqual(divided("0,1,2,3,4", 2), ["0,1", "2,3"]);
    assert.deepEqual(divided("6,7", 4), ["6", "7", "6", "7"]);
  });

  test("no list, an empty one, and one that hides all stay as they are", () => {
    for (const list of [undefined, "", "-1", "NoDevFiles"]) {
      const env = { CUDA_VISIBLE_DEVICES: list };
      assert.deepEqual(shares("CUDA_VISIBLE_DEVICES", env, 2), [list, list]);
    }
  });

  test("with AMD's driver, lists that count from ROCR_VISIBLE_DEVICES do not hide what is left of it", () => {
    const env = { ROCR_VISIBLE_DEVICES: "4,5,6,7", HIP_VISIBLE_DEVICES: "0,1,2,3" };
    assert.deepEqual(shares("ROCR_VISIBLE_DEVICES", env, 2, true), ["4,5", "6,7"]);
    assert.deepEqual(shares("HIP_VISIBLE_DEVICES", env, 2, true), [undefined, undefined]);
    const alone = { HIP_VISIBLE_DEVICES: "0,1,2,3" };
    assert.deepEqual(shares("HIP_VISIBLE_DEVICES", alone, 2, true), ["0,1", "2,3"]);
    // Some schedulers set all lists on every node.
    const both = { ROCR_VISIBLE_DEVICES: "0,1", CUDA_VISIBLE_DEVICES: "0,1" };
    assert.deepEqual(shares("CUDA_VISIBLE_DEVICES", both, 2), ["0", "1"]);
  });

  test("each gets its share of threads, unless somebody has said how many", () => {
    assert.deepEqual(shares("OMP_NUM_THREADS", {}, 4), ["8", "8", "8", "8"]);
    assert.deepEqual(shares("OMP_NUM_THREADS", { OMP_NUM_THREADS: "3" }, 2), ["3", "3"]);
  });

  test("each has caches of its own, and the first those that it has alone", () => {
    const env = { HOME: "/home/me", TRITON_CACHE_DIR: "/fast/triton" };
    assert.deepEqual(shares("TRITON_CACHE_DIR", env, 2), ["/fast/triton", "/fast/triton/server-1"]);
    assert.deepEqual(shares("VLLM_CACHE_ROOT", env, 2), [
      undefined,
      "/home/me/.cache/vllm/server-1",
    ]);
  });

  test("a server that has the node for itself finds everything as it is", () => {
    const env = { CUDA_VISIBLE_DEVICES: "0,1", HOME: "/home/me" };
    assert.deepEqual(shareOfNode(env, { index: 0, of: 1 }, node), {});
  });
});
