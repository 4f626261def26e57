import { rm } from "node:fs/promises";
import { join } from "node:path";
import { type Clock, systemClock } from "../base/clock.ts";
import { EnvironmentError, ExitCode, isMissing, OperatorError } from "../base/errors.ts";
import { readTextIfThere } from "../base/files.ts";
import type { RunLayout } from "../run/layout.ts";
import { listIfThere, sweepLeftovers } from "./exclusive.ts";
import { createRecord, keepBeating, rewriteRecord } from "./heartbeat.ts";
import {
  type OwnerIdentity,
  type OwnerRecord,
  parseOwnerRecord,
  relationTo,
} from "./owner-record.ts";
import { accessing, QueueAccessError } from "./queue-error.ts";
import { OwnerWatch } from "./verdict.ts";

/** Thrown when another `run` is at work in the directory, or may be. */
export class RunHeldError extends OperatorError {
  readonly code = "run.held";
  readonly exitCode = ExitCode.environment;
  readonly host: string;
  readonly pid: number;

  constructor(directory: string, holder: OwnerRecord, relation: "here" | "elsewhere") {
    super(
      `Cannot run in "${directory}": process ${holder.pid} on host "${holder.host}" is at work there`,
      {
        hint:
          relation === "here"
            ? `Wait for it, or stop it: kill -INT ${holder.pid}`
            : "Wait for it, or stop it there. If that machine is gone, repeat with --take-over: it watches for 15 minutes, then takes over.",
      },
    );
    this.host = holder.host;
    this.pid = holder.pid;
  }
}

/** The right to be the one live `run` of a directory. Disposing it lets the next one in at once. */
export interface RunHold extends AsyncDisposable {
  /** Aborts, with a FencedError, when the hold could not be renewed. */
  readonly fenced: AbortSignal;
}

export interface RunHoldOptions {
  /** This process; the `owner` that all its children carry as EH_OWNER. */
  readonly identity: OwnerIdentity;
  readonly clock?: Clock;
  /** Watch a silent holder on another machine for 15 minutes, then take its place. */
  readonly takeOver?: boolean;
  readonly signal?: AbortSignal;
}

const lookAgainMs = 15_000;

/**
 * Takes the run directory for this process. Records count up and the highest is the holder, so of two that find the same
 * holder dead one creates the next record. A holder whose process is gone leaves at once, after its remains were killed.
 * @throws {RunHeldError}
 */
export async function holdRun(layout: RunLayout, options: RunHoldOptions): Promise<RunHold> {
  const { identity, clock = systemClock } = options;
  const watch = new OwnerWatch({ layout, here: identity, clock });
  for (;;) {
    const current = (await numbers(layout)).at(-1) ?? 0;
    const holder = pathOf(layout, current);
    if (current > 0 && !(await awaitVacancy(layout, holder, watch, options))) continue;
    const mine = current + 1;
    if (!(await createRecord(pathOf(layout, mine), identity))) continue;
    const all = await numbers(layout);
    if (all.at(-1) !== mine) {
      // This number had been used and removed while we looked.
      await rm(pathOf(layout, mine), { force: true });
      continue;
    }
    for (const n of all) {
      if (n < mine) await rm(pathOf(layout, n), { force: true });
      await sweepLeftovers(layout.runOwners, String(n));
    }
    return keepHold(pathOf(layout, mine), identity, clock);
  }
}

function keepHold(path: string, identity: OwnerIdentity, clock: Clock): RunHold {
  const beats = keepBeating(path, { identity, clock });
  let ending: Promise<void> | undefined;
  return {
    fenced: beats.fenced,
    [Symbol.asyncDispose]: () => {
      // The record stays: numbers must never be used again.
      ending ??= beats.stop().then((beat) => endRecord(path, identity, beat + 1));
      return ending;
    },
  };
}

async function endRecord(path: string, identity: OwnerIdentity, beat: number): Promise<void> {
  try {
    await rewriteRecord(path, identity, "ended", beat);
  } catch (error) {
    // Taken over meanwhile.
    if (!isMissing(error)) throw new QueueAccessError("end the run", path, error);
  }
}

/**
 * Waits until the holder is dead. @returns false when its record is not there any more: look for the next one.
 * @throws {RunHeldError} when it is not dead, or moves while we wait for its silence.
 */
async function awaitVacancy(
  layout: RunLayout,
  path: string,
  watch: OwnerWatch,
  options: RunHoldOptions,
): Promise<boolean> {
  const { identity, clock = systemClock, signal } = options;
  for (;;) {
    const { verdict, record } = await watch.examine(path);
    if (verdict === "dead") return true;
    if (record === undefined) return await assertGone(path);
    const relation = relationTo(record, identity);
    const mayWait = relation === "elsewhere" && verdict === "unknown" && options.takeOver === true;
    if (!mayWait) {
      throw new RunHeldError(layout.directory, record, relation === "here" ? "here" : "elsewhere");
    }
    await clock.sleep(lookAgainMs, signal);
  }
}

/** Records appear whole and change in place, so one that can't be read was not written by us. */
async function assertGone(path: string): Promise<false> {
  const text = await accessing("look for another run", path, () => readTextIfThere(path));
  if (text === undefined || parseOwnerRecord(text) !== undefined) return false;
  throw new EnvironmentError("run.owner-unreadable", `Cannot read who is at work: "${path}"`, {
    hint: "If no run is at work in this directory, on any machine, remove that file.",
  });
}

async function numbers(layout: RunLayout): Promise<number[]> {
  const names = await accessing("look for another run", layout.runOwners, () =>
    listIfThere(layout.runOwners),
  );
  return (names ?? [])
    .filter((name) => /^[1-9]\d*$/.test(name))
    .map(Number)
    .sort((a, b) => a - b);
}

function pathOf(layout: RunLayout, n: number): string {
  return join(layout.runOwners, String(n));
}
