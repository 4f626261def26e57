/**
 * Kills and stops processes of a real run at random points, and looks whether anything was lost, done twice or left behind.
 * The same seed chooses the same victims in the same order.
 */
import assert from "node:assert/strict";
import { readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { openRandom, type Random } from "../../examples/demo/random.ts";
import { sendSignal } from "../../src/base/proc.ts";
import { readRunLook } from "../../src/controller/status.ts";
import { shardId, type UnitId } from "../../src/run/ids.ts";
import { type Call, callIn, evalHive, type RunningCommand, startEvalHive } from "./eval-hive.ts";
import { type ProcessRole, processesOfRun } from "./processes.ts";
import { readScores, scoresOfModel } from "./scores.ts";
import { makeSmallPlace, readEventsOf, type SmallPlace, smallUnit } from "./small-run.ts";
import { until } from "./until.ts";
import { assertTidyResults } from "./whole-state.ts";

export interface ChaosOptions {
  readonly seed: number;
  readonly faults: number;
  /** Batches of four leaves. Default: 60. */
  readonly batches?: number;
  readonly slots?: number;
  /**
   * Of the stops, how many of a hundred are never continued: the product has to find out, which takes it half a minute or
   * more. Default: 20.
   */
  readonly frozenPercent?: number;
  readonly python: string;
  /** Progress, a line at a time. */
  readonly say?: (line: string) => void;
}

const roles = [
  "command",
  "agent",
  "node agent",
  "balancer",
  "harness parent",
  "harness child",
  "server",
] as const satisfies readonly ProcessRole[];

export interface Fault {
  readonly role: (typeof roles)[number];
  readonly signal: "SIGKILL" | "SIGSTOP";
  /** From SIGSTOP to SIGCONT; undefined: never. */
  readonly stoppedMs?: number | undefined;
}

export interface ChaosReport {
  readonly faults: readonly Fault[];
  /** Calls of `run`. */
  readonly runs: number;
  readonly leaves: number;
  /** Evaluations that were begun more often than once per leaf. */
  readonly repeated: number;
  /** As many as the faults explain: the leaf in progress of each slot that was hit. */
  readonly explained: number;
  readonly seconds: number;
}

const leavesPerBatch = 4;
const stormy = smallUnit(0);
/** Equal to the first, and evaluated in peace: what the first should score. */
const peaceful = smallUnit(1);

/** @throws {AssertionError} when a promise is broken. */
export async function runChaos(options: ChaosOptions): Promise<ChaosReport> {
  const { slots = 2, batches = 60, python } = options;
  const leaves = batches * leavesPerBatch;
  await using place = await makeSmallPlace({
    leaves,
    units: 2,
    slots,
    // Slow enough that a fault may hit requests, quick enough that a leaf takes part of a second.
    serverFlags: "--delay-ms 20",
  });
  const storm = new Storm(place, callIn(place, python), slots, options);
  await storm.plan();
  return await storm.blow(leaves);
}

class Storm {
  readonly #place: SmallPlace;
  readonly #call: Call;
  readonly #slots: number;
  readonly #options: ChaosOptions;
  readonly #random: Random;
  readonly #faults: Fault[] = [];
  readonly #continuing: Promise<void>[] = [];
  #explained = 0;
  #runs = 0;

  constructor(place: SmallPlace, call: Call, slots: number, options: ChaosOptions) {
    this.#place = place;
    this.#call = call;
    this.#slots = slots;
    this.#options = options;
    this.#random = openRandom(options.seed);
  }

  /** Plans both units; few leaves would be a batch each, so the batches of the first are cut anew. */
  async plan(): Promise<void> {
    const { configFile, layout } = this.#place;
    const planned = await evalHive(
      ["create-run", "-c", configFile, "-o", layout.directory],
      this.#call,
    );
    assert.equal(planned.code, 0, planned.stderr);
    const { spec: path } = layout.shard(1, shardId(stormy, 0));
    const spec = JSON.parse(await readFile(path, "utf8")) as {
      batches: { id: string; leaves: string[] }[];
    };
    const all = spec.batches.flatMap(({ leaves }) => leaves);
    const cut = [];
    for (let at = 0; at < all.length; at += leavesPerBatch) {
      cut.push({ id: `batch-${at / leavesPerBatch}`, leaves: all.slice(at, at + leavesPerBatch) });
    }
    await writeFile(path, JSON.stringify({ ...spec, batches: cut }));
  }

  async blow(leaves: number): Promise<ChaosReport> {
    const startedAt = performance.now();
    const { faults } = this.#options;
    let run: RunningCommand | undefined;
    for (let n = 0; n < faults; n++) {
      const threshold = Math.floor((n * leaves) / (faults + 1));
      run = await this.#awaitProgress(run, threshold);
      // Somewhere within a leaf.
      await wait(this.#random.below(400));
      await this.#strike(n);
    }
    await this.#finish(run);
    await Promise.all(this.#continuing);
    await this.#check(leaves);
    return {
      faults: this.#faults,
      runs: this.#runs,
      leaves,
      repeated: await this.#repeated(leaves),
      explained: this.#explained,
      seconds: Math.round((performance.now() - startedAt) / 1_000),
    };
  }

  /** Until so many leaves of the first unit are done; `run` is called again whenever it has ended. */
  async #awaitProgress(
    given: RunningCommand | undefined,
    threshold: number,
  ): Promise<RunningCommand> {
    let run = given;
    const deadline = performance.now() + 300_000;
    for (;;) {
      run = await this.#keepRunning(run);
      const running = (await processesOfRun(this.#place.root)).map(({ role }) => role);
      if ((await this.#done()) >= threshold && running.includes("harness child")) return run;
      assert.ok(performance.now() < deadline, `no progress to ${threshold} leaves`);
      await wait(60);
    }
  }

  async #keepRunning(run: RunningCommand | undefined): Promise<RunningCommand> {
    const end = run === undefined ? undefined : await endOf(run);
    if (run !== undefined && end === undefined) return run;
    if (run !== undefined && end !== undefined) {
      const given = end.code === 4 && /was given up/.test(run.stdout());
      assert.ok(end.signal === "SIGKILL" || given, `run ended with ${end.code}: ${run.stderr()}`);
      await this.#awaitNothing();
    }
    this.#runs += 1;
    return await startEvalHive(["run", this.#place.layout.directory], this.#call);
  }

  async #strike(n: number): Promise<void> {
    const alive = await processesOfRun(this.#place.root);
    const role = this.#random.pick(roles);
    const stop = this.#random.below(100) < 40;
    const frozen = this.#random.below(100) < (this.#options.frozenPercent ?? 20);
    const stoppedMs = 50 + this.#random.below(1_500);
    const victims = alive.filter((process) => process.role === role);
    const victim = victims[this.#random.below(Math.max(victims.length, 1))];
    // It is being replaced just now: the next fault finds it again.
    if (victim === undefined) return;
    // Whoever stops the run or the agent has to see to it that somebody goes on.
    const mustEnd = role === "command" || role === "agent";
    const fault: Fault = stop
      ? { role, signal: "SIGSTOP", stoppedMs: frozen && !mustEnd ? undefined : stoppedMs }
      : { role, signal: "SIGKILL" };
    this.#faults.push(fault);
    this.#options.say?.(`${n + 1}: ${fault.signal} to the ${role}${describe(fault)}`);
    if (!sendSignal(victim.pid, fault.signal)) return;
    if (fault.stoppedMs !== undefined)
      this.#continuing.push(this.#release(victim.pid, fault, frozen));
    if (fault.stoppedMs === undefined || (frozen && mustEnd)) this.#explained += this.#costOf(role);
  }

  /** Continues what was stopped, or kills it. */
  async #release(pid: number, { role, stoppedMs = 0 }: Fault, frozen: boolean): Promise<void> {
    await wait(stoppedMs);
    const kills = frozen && (role === "command" || role === "agent");
    sendSignal(pid, kills ? "SIGKILL" : "SIGCONT");
  }

  /** Evaluations that a fault may cost: the leaf in progress of each slot that it hits. */
  #costOf(role: Fault["role"]): number {
    switch (role) {
      case "command":
      case "agent":
      case "harness parent":
        return this.#slots;
      case "harness child":
        return 1;
      default:
        return 0;
    }
  }

  async #finish(given: RunningCommand | undefined): Promise<void> {
    for (let run = given; ; ) {
      run = await this.#keepRunning(run);
      const { code } = await run.ended;
      if (code === 0) break;
    }
    await this.#awaitNothing();
  }

  async #awaitNothing(): Promise<void> {
    await Promise.all(this.#continuing);
    await until(async () => (await processesOfRun(this.#place.root)).length === 0, {
      timeoutMs: 90_000,
      what: "no process is left",
    });
  }

  async #done(): Promise<number> {
    const files = await this.#place.leafFiles();
    return files.filter((file) => file.startsWith("small-0/")).length;
  }

  async #repeated(leaves: number): Promise<number> {
    const started = await readEventsOf(this.#place.layout, "leaf.started");
    return started.filter(({ unit }) => unit === stormy).length - leaves;
  }

  async #check(leaves: number): Promise<void> {
    const { layout } = this.#place;
    const { state, record } = await readRunLook(layout);
    for (const id of [stormy, peaceful]) {
      const unit = state.units.find(({ unit: other }) => other === id);
      const { done, dead, invalid } = unit?.leaves ?? {};
      assert.deepEqual({ id, done, dead, invalid }, { id, done: leaves, dead: 0, invalid: 0 });
    }
    assert.equal(record.missing, 0, "events are missing");
    await assertTidyResults(this.#place, leaves);
    await assertSettled(layout.strikes(stormy as UnitId));
    const collected = await evalHive(["collect", layout.directory], this.#call);
    assert.equal(collected.code, 0, collected.stderr + collected.stdout);
    const rows = await readScores(layout.scores);
    const expected = scoresOfModel(rows, "small-1");
    assert.equal(expected.size, 2 * leaves);
    assert.deepEqual(scoresOfModel(rows, "small-0"), expected);
    const repeated = await this.#repeated(leaves);
    assert.ok(
      repeated <= this.#explained,
      `${repeated} evaluations were repeated, the faults explain ${this.#explained}`,
    );
  }
}

function describe({ signal, stoppedMs }: Fault): string {
  if (signal === "SIGKILL") return "";
  return stoppedMs === undefined ? " for ever" : ` for ${stoppedMs} ms`;
}

/** How it has ended, if it has. */
async function endOf(run: RunningCommand) {
  return await Promise.race([run.ended, Promise.resolve(undefined)]);
}

/** Whole records only: no temporary file of a killed writer that anybody would read. */
async function assertSettled(strikes: string): Promise<void> {
  for (const name of await readdir(strikes).catch(() => [])) {
    if (name.startsWith(".")) continue;
    JSON.parse(await readFile(join(strikes, name), "utf8"));
  }
}
