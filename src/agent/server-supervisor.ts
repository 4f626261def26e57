import { type Clock, secondsSince, systemClock } from "../base/clock.ts";
import { messageOf } from "../base/errors.ts";
import { describeExit } from "../base/spawn.ts";
import { describeNames, type Examination, examineServer, isOtherModel } from "./examine-server.ts";
import { askHealth, askModels } from "./health.ts";
import { readLogTail } from "./log-tail.ts";
import type { HowToAsk, NodeReport, ServerSpec } from "./node-protocol.ts";
import { fillPlaceholders } from "./placeholders.ts";
import { choosePort } from "./ports.ts";
import { identifyServer } from "./server-identity.ts";
import { type ServerProcess, startServerProcess } from "./server-process.ts";
import { findPortOwner, watchPortOwner } from "./socket-owner.ts";

/** A look at a server that is not up costs next to nothing, and one that is up and not asked costs GPUs. */
const startingIntervalMs = 200;
/** Looks that must fail in a row before a server that runs gets no more requests. */
const failuresToUnhealthy = 3;
/** A server that has not answered for so long is restarted; a busy one answers late. */
const unhealthyMs = 60_000;
const retryPauseMs = 500;
/** Between the starts of two servers of one node. */
const staggerMs = 1_000;
/** Ports that turned out to be a stranger's, before that counts as a failed start. */
const maxStrangers = 10;

export interface SupervisorOptions {
  readonly env: NodeJS.ProcessEnv;
  readonly report: (report: NodeReport) => void;
  /** Aborting it stops the server. */
  readonly signal: AbortSignal;
  readonly clock?: Clock;
  readonly choosePort?: typeof choosePort;
}

/** How one life of a server ended. */
type LifeEnd =
  | { readonly kind: "stopped" }
  /** Somebody else listens on its port. */
  | { readonly kind: "stranger"; readonly port: number }
  /** It runs, and can't do what it is needed for. */
  | { readonly kind: "unfit"; readonly reason: string }
  | { readonly kind: "never-healthy" | "ended"; readonly reason: string; readonly log: string };

/** Keeps one server running until it is told to stop, or until it did not get healthy as often as allowed. Never throws. */
export async function superviseServer(spec: ServerSpec, options: SupervisorOptions): Promise<void> {
  const { report, signal, clock = systemClock } = options;
  const about = { server: spec.server, key: spec.key };
  const strangers = new Set<number>();
  let nStrangers = 0;
  let failedStarts = 0;
  try {
    // Not all read the weights, and compile, in the same second.
    if (spec.share.index > 0) await clock.sleep(spec.share.index * staggerMs, signal);
    for (let startAttempt = 1; !signal.aborted; ) {
      const end = await oneLife(spec, startAttempt, strangers, options);
      if (end.kind === "stopped") break;
      if (end.kind === "unfit") {
        report({ type: "failed", ...about, unfit: true, reason: end.reason, log_tail: [] });
        return;
      }
      if (end.kind === "stranger") {
        strangers.add(end.port);
        if (++nStrangers <= maxStrangers) continue;
      }
      startAttempt += 1;
      if (end.kind === "ended") failedStarts = 0;
      else failedStarts += 1;
      const reason = end.kind === "stranger" ? "other programs took its ports" : end.reason;
      const log_tail = end.kind === "stranger" ? [] : await readLogTail(end.log);
      if (failedStarts >= spec.start_attempts) {
        report({ type: "failed", ...about, reason, log_tail });
        return;
      }
      report({ type: "down", ...about, served: end.kind === "ended", reason, log_tail });
      if (failedStarts > 0) await clock.sleep(retryPauseMs * failedStarts, signal);
    }
  } catch (error) {
    if (!signal.aborted) {
      report({ type: "failed", ...about, reason: messageOf(error), log_tail: [] });
      return;
    }
  }
  report({ type: "stopped", ...about });
}

async function oneLife(
  spec: ServerSpec,
  startAttempt: number,
  strangers: ReadonlySet<number>,
  options: SupervisorOptions,
): Promise<LifeEnd> {
  const { clock = systemClock, report, signal } = options;
  const startedAt = clock.monotonic();
  const port = await (options.choosePort ?? choosePort)(strangers, spec.share);
  const { env } = options;
  await using server = await startServerProcess(spec, { port, startAttempt, env, signal, clock });
  const about = { server: spec.server, key: spec.key };
  report({ type: "starting", ...about, start_attempt: startAttempt, port, log: server.log });

  const over = new AbortController();
  const watched = AbortSignal.any([signal, over.signal]);
  server.exited.then((exit) => over.abort(new Error(describeExit(exit))));
  let healthy = false;
  try {
    const admitted = await awaitHealth(spec, server, watched, clock);
    if (admitted.kind !== "healthy") return admitted;
    const examined = await examine(spec, server, admitted.names, watched, clock);
    if (examined.kind === "unfit") return examined;
    if (examined.kind === "failing") {
      const reason = `healthy, but ${examined.reason}`;
      return { kind: "never-healthy", reason, log: server.log };
    }
    healthy = true;
    const url = `http://${spec.host}:${port}`;
    const start_s = secondsSince(clock, startedAt);
    const { kind: _, echo, ...findings } = examined;
    const identity = await identifyServer({ ...server, spec, models: admitted.names });
    const body = {
      ...about,
      start_attempt: startAttempt,
      port,
      url,
      start_s,
      identity,
      ...findings,
    };
    const announce = () => report({ type: "healthy", ...body, ...(echo && { echo: [...echo] }) });
    announce();
    const reason = await watchHealth(spec, port, watched, clock, {
      unhealthy: (why) => report({ type: "unhealthy", ...about, reason: why }),
      recovered: announce,
    });
    return { kind: "ended", reason, log: server.log };
  } catch (error) {
    if (signal.aborted) return { kind: "stopped" };
    if (!over.signal.aborted) throw error;
    const reason = `the server ended (${messageOf(over.signal.reason)})`;
    if (healthy) return { kind: "ended", reason, log: server.log };
    // It may have ended because somebody else was there before it.
    const owner = await findPortOwner(port, server.membership);
    if (owner === "stranger") return { kind: "stranger", port };
    return { kind: "never-healthy", reason, log: server.log };
  }
}

/** Before it gets requests; each process anew. */
async function examine(
  spec: ServerSpec,
  server: ServerProcess,
  names: readonly string[] | undefined,
  signal: AbortSignal,
  clock: Clock,
): Promise<Examination> {
  const { model } = spec;
  const { apiKey, port } = server;
  const ask = spec.ask && { ...spec.ask, headers: filled(spec.ask.headers, server.env) };
  return await examineServer(
    { url: `http://127.0.0.1:${port}`, model, names, apiKey, ask },
    signal,
    { clock },
  );
}

function filled(headers: HowToAsk["headers"], env: NodeJS.ProcessEnv): HowToAsk["headers"] {
  const entries = Object.entries(headers ?? {});
  const known = entries.map(([name, value]) => [name, fillPlaceholders(value, env)]);
  return headers && Object.fromEntries(known);
}

type Admission =
  /** `names` at /v1/models; undefined: it has no such list. */
  | { readonly kind: "healthy"; readonly names: readonly string[] | undefined }
  | Extract<LifeEnd, { kind: "stranger" | "never-healthy" }>
  | { readonly kind: "never-healthy"; readonly reason: string; readonly log: string };

/** Waits until the port is ours, /health answers 200, and nothing says that it is another model. */
async function awaitHealth(
  spec: ServerSpec,
  server: ServerProcess,
  signal: AbortSignal,
  clock: Clock,
): Promise<Admission> {
  const local = `http://127.0.0.1:${server.port}`;
  const deadline = clock.monotonic() + spec.max_wait_s * 1000;
  const findOwner = watchPortOwner(server.port, server.membership);
  let reason = "nothing listens on EH_PORT";
  while (clock.monotonic() < deadline) {
    const owner = await findOwner();
    signal.throwIfAborted();
    if (owner === "stranger") return { kind: "stranger", port: server.port };
    if (owner !== "nobody") {
      const health = await askHealth(local, signal);
      if (!health.ok) {
        reason = health.reason;
      } else {
        const names = await askModels(local, signal);
        if (owner === "ours" || !isOtherModel(spec.model, names)) return { kind: "healthy", names };
        const named = describeNames(spec.model ?? "", names ?? []);
        reason = `nobody knows whose server listens on EH_PORT, and ${named}`;
      }
    }
    await clock.sleep(startingIntervalMs, signal);
  }
  reason = `not healthy within ${spec.max_wait_s} s: ${reason}`;
  return { kind: "never-healthy", reason, log: server.log };
}

/** Looks after a healthy server until it has to be restarted. @returns why. @throws the signal's reason. */
async function watchHealth(
  spec: ServerSpec,
  port: number,
  signal: AbortSignal,
  clock: Clock,
  on: { unhealthy: (reason: string) => void; recovered: () => void },
): Promise<string> {
  let failures = 0;
  let failingSince = 0;
  for (;;) {
    const pauseMs = failures === 0 ? spec.health_interval_s * 1000 : 2_000;
    await clock.sleep(Math.min(pauseMs, spec.health_interval_s * 1000), signal);
    const health = await askHealth(`http://127.0.0.1:${port}`, signal);
    if (health.ok) {
      if (failures >= failuresToUnhealthy) on.recovered();
      failures = 0;
      continue;
    }
    failures += 1;
    if (failures === 1) failingSince = clock.monotonic();
    if (failures === failuresToUnhealthy) on.unhealthy(health.reason);
    if (clock.monotonic() - failingSince > unhealthyMs) {
      return `no good answer for ${unhealthyMs / 1000} s: ${health.reason}`;
    }
  }
}
