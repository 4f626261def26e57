import { homedir } from "node:os";
import { join } from "node:path";

/** Which part of a node a server gets: the `index`-th of `of` equal ones. */
export interface NodeShare {
  readonly index: number;
  readonly of: number;
}

/** What a node has to share. */
export interface NodeResources {
  readonly cpus: number;
  /** It has AMD's driver: there, other lists than ROCR_VISIBLE_DEVICES count from the first device of that one. */
  readonly isRocm: boolean;
}

/** Lists of devices as schedulers set them: ordinals, UUIDs, or names of parts of a device (MIG). */
const deviceLists = [
  "CUDA_VISIBLE_DEVICES",
  "ROCR_VISIBLE_DEVICES",
  "HIP_VISIBLE_DEVICES",
  "GPU_DEVICE_ORDINAL",
  "ZE_AFFINITY_MASK",
] as const;
const countFromRocr = ["CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL"];

/** Where compilers of kernels keep what they have made, from the home directory. Two servers that start must not write to one. */
const caches = {
  VLLM_CACHE_ROOT: ".cache/vllm",
  TRITON_CACHE_DIR: ".triton/cache",
  TORCHINDUCTOR_CACHE_DIR: ".cache/torchinductor",
} as const;

/**
 * What is changed in the environment of a server that shares its node with others; undefined: removed. Devices that no list
 * names can't be divided. Pure.
 */
export function shareOfNode(
  env: NodeJS.ProcessEnv,
  share: NodeShare,
  { cpus, isRocm }: NodeResources,
): Record<string, string | undefined> {
  if (share.of === 1) return {};
  const changed: Record<string, string | undefined> = {};
  const isFromRocr = isRocm && isList(env.ROCR_VISIBLE_DEVICES);
  for (const name of deviceLists) {
    const list = env[name];
    if (!isList(list)) continue;
    if (isFromRocr && countFromRocr.includes(name)) changed[name] = undefined;
    else changed[name] = sliceOf(list.split(","), share).join(",");
  }
  const threads = Math.max(1, Math.floor(cpus / share.of));
  if (env.OMP_NUM_THREADS === undefined) changed.OMP_NUM_THREADS = String(threads);
  // The first one keeps what it finds without others, too.
  if (share.index === 0) return changed;
  const home = env.HOME ?? homedir();
  for (const [name, below] of Object.entries(caches)) {
    changed[name] = join(env[name] ?? join(home, below), `server-${share.index}`);
  }
  return changed;
}

function isList(list: string | undefined): list is string {
  return list !== undefined && list !== "" && list !== "-1" && list !== "NoDevFiles";
}

/** Neighbours stay together. Fewer devices than servers are shared; what can't be divided evenly is left unused. */
function sliceOf(devices: readonly string[], { index, of }: NodeShare): readonly string[] {
  const each = Math.floor(devices.length / of);
  if (each === 0) return devices.slice(index % devices.length).slice(0, 1);
  return devices.slice(index * each, (index + 1) * each);
}
