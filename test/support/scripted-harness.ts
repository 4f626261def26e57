/**
 * Speaks the harness's side of the protocol without lm_eval, as a program of its own. Each leaf does what its name says:
 *
 * - `done`, `failed`, `invalid`: what its message says
 * - `hang`: goes on until the run is cancelled; `deaf`: beyond that
 * - `crash`: its child dies; `harness-dies`: so does the harness
 *
 * The environment decides how it starts: FAKE_DIES_FIRST=file (exits at its first start, before hello), FAKE_LM_EVAL=version,
 * FAKE_START_FAILS=1, FAKE_HANGS=1 (never says hello, heeds no TERM).
 */
import { existsSync, writeFileSync } from "node:fs";
import { createInterface } from "node:readline";
import type { FailureClass } from "../../src/lmeval/failure-class.ts";
import type { HarnessMessage, HarnessRequest, HarnessVersions } from "../../src/lmeval/protocol.ts";

export const scriptedVersions: HarnessVersions = {
  python: "3.11.2",
  lm_eval: "0.4.13",
  lm_eval_sha256: "0".repeat(64),
  datasets: null,
  transformers: null,
  torch: null,
};

function say(message: HarnessMessage): void {
  process.stdout.write(`${JSON.stringify(message)}\n`);
}

function sayEnded(id: string, how: { signal?: string; cancelled?: boolean; leaf?: string }): void {
  const { signal = null, cancelled = false, leaf = null } = how;
  const exit_code = signal === null ? 0 : null;
  const use = { cpu_s: 0, max_rss_bytes: 2 ** 20 };
  say({ type: "ended", id, exit_code, signal, cancelled, leaf, ...use });
}

function failure(failureClass: FailureClass, message: string) {
  return { class: failureClass, permanent: false, message, trace_tail: [] as string[] };
}

type RunRequest = Extract<HarnessRequest, { type: "run" }>;

/** Runs that hang, and at which leaf. */
const hanging = new Map<string, string>();

function run({ id, leaves }: RunRequest): void {
  say({ type: "started", id, pid: process.pid });
  for (const { id: leaf, name } of leaves) {
    say({ type: "leaf_started", id, leaf });
    switch (name) {
      case "done":
        say({
          ...{ type: "leaf_done", id, leaf, path: `/results/${leaf}`, outcome: "created" },
          ...{ samples_path: null, n_samples: 1, n_requests: 1 },
          ...{ load_s: 0, requests_s: 0, total_s: 0 },
        });
        break;
      case "failed":
        say({ type: "leaf_failed", id, leaf, ...failure("metric", "scripted") });
        break;
      case "invalid":
        say({ type: "leaf_invalid", id, leaf, path: `/results/${leaf}`, reason: "scripted" });
        break;
      case "crash":
        sayEnded(id, { signal: "SIGSEGV", leaf });
        return;
      case "harness-dies":
        process.kill(process.pid, "SIGKILL");
        return;
      default:
        hanging.set(id, name);
        return;
    }
  }
  sayEnded(id, {});
}

function obey(request: HarnessRequest): void {
  if (request.type === "ping") say({ type: "pong", n: request.n });
  else if (request.type === "run") run(request);
  else if (request.type === "cancel" && hanging.get(request.id) === "hang") {
    hanging.delete(request.id);
    sayEnded(request.id, { signal: "SIGTERM", cancelled: true });
  }
}

function main(env: NodeJS.ProcessEnv): void {
  const first = env["FAKE_DIES_FIRST"];
  if (first !== undefined && !existsSync(first)) {
    writeFileSync(first, "");
    process.exit(1);
  }
  if (env["FAKE_HANGS"] === "1") {
    process.on("SIGTERM", () => {});
    setInterval(() => {}, 1_000);
    return;
  }
  if (env["FAKE_START_FAILS"] === "1") {
    say({ type: "error", id: "", ...failure("missing-module", "No module named 'lm_eval'") });
    return;
  }
  const versions = { ...scriptedVersions, lm_eval: env["FAKE_LM_EVAL"] ?? "0.4.13" };
  say({ type: "hello", pid: process.pid, versions });
  const lines = createInterface({ input: process.stdin });
  lines.on("line", (line) => obey(JSON.parse(line) as HarnessRequest));
  lines.on("close", () => say({ type: "goodbye", cpu_s: 2.5 }));
}

if (import.meta.main) main(process.env);
