import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { BatchHarness, RunEnd } from "../../src/agent/warm-harness.ts";
import type { FailureClass } from "../../src/lmeval/failure-class.ts";
import type { HarnessMessage } from "../../src/lmeval/protocol.ts";
import type { Fingerprint, LeafId } from "../../src/run/ids.ts";
import { invalidFileName, leafFileName } from "../../src/run/layout.ts";

/** What becomes of a leaf when its turn comes. */
export type Act =
  | "done"
  | "invalid"
  /** Goes on until the run is aborted; `heard` is called when it has begun. */
  | { readonly kind: "hang"; readonly heard?: () => void }
  | { readonly kind: "fail"; readonly class: FailureClass; readonly permanent?: boolean }
  /** The child dies at it; without a signal it exits with 1. */
  | { readonly kind: "crash"; readonly signal?: NodeJS.Signals }
  /** The child dies before it says that it has begun. */
  | { readonly kind: "mute" }
  /** The harness is not up yet, and does not get up. */
  | { readonly kind: "late"; readonly heard?: () => void }
  /** Its answers are nearly all there; the last ones come when the promise resolves. */
  | { readonly kind: "nearly"; readonly rest: Promise<unknown>; readonly act?: Act }
  /** Its answers are all there, and scored when the promise resolves. */
  | { readonly kind: "scores"; readonly rest: Promise<unknown>; readonly act?: Act }
  /** The run can't be carried out. */
  | { readonly kind: "error"; readonly class: FailureClass }
  /** The harness itself dies. */
  | { readonly kind: "lost" }
  /** Something happens, then the next act counts. */
  | { readonly kind: "then"; readonly first: () => void | Promise<void>; readonly act: Act };

export const fail = (failureClass: FailureClass, permanent = false): Act => ({
  kind: "fail",
  class: failureClass,
  permanent,
});

type RunMessage = Extract<HarnessMessage, { id: string; leaf: string }>;

/** Evaluates nothing: each leaf does what its script says, one act per time that it is begun, the last one for good. */
export class ScriptedBatches implements BatchHarness {
  /** Leaf ids of each run, in the order of the runs. */
  readonly runs: string[][] = [];
  /** Leaves for which the model was asked, in their order. */
  readonly asked: string[] = [];
  readonly #scripts: Readonly<Record<string, readonly Act[]>>;
  readonly #begun = new Map<string, number>();

  /** Leaves without a script are done. */
  constructor(scripts: Readonly<Record<string, Act | readonly Act[]>> = {}) {
    const entries = Object.entries(scripts);
    this.#scripts = Object.fromEntries(entries.map(([leaf, acts]) => [leaf, [acts].flat()]));
  }

  /** How often a leaf was begun. */
  begun(leaf: string): number {
    return this.#begun.get(leaf) ?? 0;
  }

  run: BatchHarness["run"] = async ({ id, leaves, output_dir }, { onMessage, signal, turn }) => {
    this.runs.push(leaves.map((leaf) => leaf.id));
    for (const { id: leaf, fingerprint } of leaves) {
      const n = this.begun(leaf);
      this.#begun.set(leaf, n + 1);
      const acts = this.#scripts[leaf] ?? ["done"];
      let act = acts[Math.min(n, acts.length - 1)] as Act;
      if (typeof act === "object" && act.kind === "late") {
        act.heard?.();
        await aborted(signal);
        return { kind: "lost" };
      }
      if (typeof act === "object" && act.kind === "mute") return ended({ exit_code: 1 });
      if (typeof act === "object" && act.kind === "error")
        return { kind: "error", error: failed(act) };
      onMessage({ type: "leaf_started", id, leaf });
      // What can't be loaded asks nothing.
      const asks = typeof act !== "object" || act.kind !== "fail" || act.class !== "load";
      if (turn !== undefined && asks) {
        const prepared = { phase: "prepared", done: 0, total: 1, nearly_done: false } as const;
        onMessage({ type: "progress", id, leaf, ...prepared });
        await Promise.race([turn, aborted(signal)]);
      }
      // A child hears of its end when it is at the next leaf already.
      if (signal.aborted) return ended({ cancelled: true, leaf });
      if (asks) this.asked.push(leaf);
      while (typeof act === "object" && act.kind === "then") {
        await act.first();
        act = act.act;
      }
      if (typeof act === "object" && (act.kind === "nearly" || act.kind === "scores")) {
        const nearly = { phase: "requests", done: 9, total: 10, nearly_done: true } as const;
        const scores = { phase: "scoring", done: 0, total: 1, nearly_done: true } as const;
        onMessage({ type: "progress", id, leaf, ...(act.kind === "nearly" ? nearly : scores) });
        await act.rest;
        act = act.act ?? "done";
      }
      const message = await perform(act, { id, leaf, fingerprint, output_dir });
      if (message !== undefined) {
        onMessage(message);
        await new Promise((resolve) => setImmediate(resolve));
        continue;
      }
      const end = await endAt(act, leaf, signal);
      if (end !== undefined) return end;
    }
    return ended({});
  };
}

interface Place {
  readonly id: string;
  readonly leaf: string;
  readonly fingerprint: string;
  readonly output_dir: string;
}

async function perform(act: Act, place: Place): Promise<RunMessage | undefined> {
  const { id, leaf, output_dir } = place;
  const fingerprint = place.fingerprint as Fingerprint;
  if (act === "done" || act === "invalid") {
    await mkdir(output_dir, { recursive: true });
    const name = act === "done" ? leafFileName : invalidFileName;
    const path = join(output_dir, name(leaf as LeafId, fingerprint));
    await writeFile(path, "{}");
    if (act === "invalid") return { type: "leaf_invalid", id, leaf, path, reason: "scripted" };
    const times = { load_s: 0, requests_s: 0, total_s: 0 };
    const counts = { samples_path: null, n_samples: 1, n_requests: 1 };
    return { type: "leaf_done", id, leaf, path, outcome: "created", ...counts, ...times };
  }
  if (act.kind !== "fail") return undefined;
  const { type: _, id: _id, ...failure } = failed(act);
  return { type: "leaf_failed", id, leaf, ...failure };
}

async function endAt(act: Act, leaf: string, signal: AbortSignal): Promise<RunEnd | undefined> {
  if (typeof act !== "object") return undefined;
  switch (act.kind) {
    case "crash":
      return ended(
        act.signal === undefined ? { exit_code: 1, leaf } : { signal: act.signal, leaf },
      );
    case "lost":
      return { kind: "lost" };
    case "hang":
      act.heard?.();
      await aborted(signal);
      return ended({ cancelled: true, leaf });
    default:
      return undefined;
  }
}

async function aborted(signal: AbortSignal): Promise<void> {
  await new Promise((resolve) => {
    if (signal.aborted) resolve(undefined);
    signal.addEventListener("abort", resolve, { once: true });
  });
}

type Ended = Extract<RunEnd, { kind: "ended" }>["ended"];

function ended(how: Partial<Ended>): RunEnd {
  const exit_code = how.signal === undefined && how.cancelled !== true ? 0 : null;
  const use = { cpu_s: 1.5, max_rss_bytes: 300 * 2 ** 20 };
  const base: Ended = {
    type: "ended",
    id: "",
    exit_code,
    signal: null,
    cancelled: false,
    leaf: null,
    ...use,
  };
  return { kind: "ended", ended: { ...base, ...how } };
}

function failed(act: { readonly class: FailureClass; readonly permanent?: boolean }) {
  return {
    type: "error" as const,
    id: "",
    class: act.class,
    permanent: act.permanent === true,
    message: `scripted ${act.class}`,
    trace_tail: ["Traceback", `scripted ${act.class}`],
  };
}
