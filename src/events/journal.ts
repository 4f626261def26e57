import { randomBytes } from "node:crypto";
import { type FileHandle, open } from "node:fs/promises";
import { join } from "node:path";
import { type Clock, systemClock } from "../base/clock.ts";
import { EnvironmentError, errnoAdvice, errnoName, messageOf } from "../base/errors.ts";
import { ensureDirectory, syncDirectory } from "../base/files.ts";
import type { RunLayout } from "../run/layout.ts";
import { checkEvent, encodeLine } from "./encode.ts";
import type { EventSink } from "./event.ts";

export interface JournalOptions {
  readonly layout: RunLayout;
  /** `run_id` of the plan. */
  readonly runId: string;
  /** Host name. */
  readonly node: string;
  /** What this process is; part of the writer's name. */
  readonly role?: string;
  /** The writer's whole name, instead of one made of role, node, pid and a random part. */
  readonly writer?: string;
  readonly clock?: Clock;
  /** Opens the file; for tests of full disks. */
  readonly openFile?: (path: string, flags: "ax" | "a") => Promise<JournalFile>;
  /** When it aborts, what can't be written within 5 s fails, as when the journal is closed. */
  readonly hurry?: AbortSignal;
  /** Told when writing fails (again and again while it does), and with undefined when it works again. */
  readonly onTrouble?: (error: JournalError | undefined) => void;
}

/** What the journal needs of a file. */
export type JournalFile = Pick<FileHandle, "write" | "datasync" | "close">;

/** Thrown when events could not be written before the journal was closed. */
export class JournalError extends EnvironmentError {
  constructor(action: string, path: string, cause: unknown) {
    const advice = errnoAdvice(cause) ?? messageOf(cause);
    super("events.write", `Cannot ${action} "${path}": ${advice}`, {
      cause,
      hint: "Results are safe: leaf files say what is done. Mend the cause; the record of events may have a gap.",
    });
  }
}

/** The record of this process: what it publishes, in the order of the calls, in one file of its own. */
export interface Journal extends EventSink, AsyncDisposable {
  readonly writer: string;
  readonly path: string;
}

/** Of the pauses between attempts to write; they double. */
const firstPauseMs = 100;
const longestPauseMs = 5_000;
/** How long closing, or a journal in a hurry, goes on trying. */
const closingMs = 5_000;
/** A file server may come back: as long as its owner may live without a heartbeat. */
const patienceMs = 300_000;
/** What only a person can mend comes back seldom, and until then the evaluation stands still. */
const shortPatienceMs = 15_000;
const needPerson = ["ENOSPC", "EDQUOT", "EROFS", "EACCES", "EPERM"];
/** Lines that may wait for an fsync. */
const maxUnsynced = 64;

/**
 * Creates the journal of this process. A line that is in the file stays; one write() per event; events that change a state
 * are on the disk (fdatasync) when `publish` resolves, progress is only handed to the system. While the file server is away
 * `publish` waits for 300 s, on a full disk for 15 s, and nothing is skipped: what may have been lost is written again under
 * the same seq. After that it rejects with a JournalError, and so do later calls at once while the fault lasts.
 * @throws {JournalError} when the file can't be created.
 */
export async function openJournal(options: JournalOptions): Promise<Journal> {
  const { events } = options.layout;
  for (;;) {
    const writer = options.writer ?? writerName(options.role ?? "controller", options.node);
    const path = join(events, `${writer}.jsonl`);
    try {
      await ensureDirectory(events);
      const file = await (options.openFile ?? open)(path, "ax");
      await syncDirectory(events);
      return new FileJournal({ ...options, writer, path }, file);
    } catch (error) {
      // A network file system may say so of a file that this very call has made.
      if (errnoName(error) === "EEXIST" && options.writer === undefined) continue;
      throw new JournalError("create the journal", path, error);
    }
  }
}

function writerName(role: string, node: string): string {
  const host = node.replace(/[^A-Za-z0-9-]/g, "-").slice(0, 60);
  return `${role}-${host}-${process.pid}-${randomBytes(4).toString("hex")}`;
}

interface Line {
  readonly text: string;
  /** Changes a state: goes to the disk at once. */
  readonly durable: boolean;
  readonly written: () => void;
  readonly failed: (error: Error) => void;
}

class FileJournal implements Journal {
  readonly writer: string;
  readonly path: string;
  readonly #options: JournalOptions;
  readonly #clock: Clock;
  #file: JournalFile | undefined;
  #seq = 0;
  /** Not written yet, in order. */
  #waiting: Line[] = [];
  /** Written since the last fsync: repeated if that fails, since the system may have dropped them. */
  #unsynced: string[] = [];
  /** The file may end in the middle of a line. */
  #torn = false;
  /** Set when events could not be written before the end. */
  #lost: JournalError | undefined;
  #writing: Promise<void> | undefined;
  #closing: Promise<void> | undefined;
  /** Aborts when there is no time for another attempt. */
  readonly #closeSignal = new AbortController();
  /** Aborts when the journal is closed. */
  readonly #closed = new AbortController();

  constructor(options: JournalOptions & { writer: string; path: string }, file: JournalFile) {
    this.writer = options.writer;
    this.path = options.path;
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    this.#file = file;
    const { hurry } = options;
    const giveUpSoon = () => this.#giveUpSoon();
    if (hurry?.aborted === true) giveUpSoon();
    hurry?.addEventListener("abort", giveUpSoon, { once: true, signal: this.#closed.signal });
  }

  publish: EventSink["publish"] = async (type, subject, body) => {
    if (this.#closing !== undefined) throw new Error(`Journal "${this.path}" is closed`);
    const checked = checkEvent(type, subject, body);
    const envelope = {
      schema_version: 1 as const,
      type,
      run: this.#options.runId,
      ...checked.subject,
      node: this.#options.node,
      writer: this.writer,
      seq: this.#seq + 1,
      at: new Date(this.#clock.now()).toISOString(),
    };
    const text = encodeLine(envelope, checked.body);
    this.#seq += 1;
    const done = new Promise<void>((written, failed) => {
      this.#waiting.push({ text, durable: type !== "batch.progress", written, failed });
    });
    this.#writing ??= this.#write();
    await done;
  };

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing ??= this.#close();
    await this.#closing;
  }

  /** Writes until nothing waits. Never throws: what can't be written at the end fails its own promise. */
  async #write(): Promise<void> {
    let pauseMs = firstPauseMs;
    let failingSince: number | undefined;
    while (this.#waiting.length > 0) {
      const lines = this.#waiting.slice();
      try {
        await this.#append(lines);
        if (failingSince !== undefined) this.#options.onTrouble?.(undefined);
        pauseMs = firstPauseMs;
        failingSince = undefined;
      } catch (cause) {
        const error = new JournalError("write to the journal", this.path, cause);
        this.#options.onTrouble?.(error);
        await this.#reset();
        const now = this.#clock.monotonic();
        failingSince ??= now;
        // Once is enough: what comes after a line that was lost is tried, and no more.
        const patient = this.#lost === undefined && now - failingSince < patienceWith(cause);
        if (!patient || !(await this.#pause(pauseMs))) {
          this.#lost = error;
          for (const { failed } of this.#waiting.splice(0)) failed(error);
        }
        pauseMs = Math.min(pauseMs * 2, longestPauseMs);
        continue;
      }
      this.#waiting.splice(0, lines.length);
      for (const { written } of lines) written();
    }
    this.#writing = undefined;
  }

  async #append(lines: readonly Line[]): Promise<void> {
    this.#file ??= await (this.#options.openFile ?? open)(this.path, "a");
    if (this.#torn) {
      // Readers drop the torn line, and a line that they have already.
      await writeWhole(this.#file, "\n");
      for (const text of this.#unsynced) await writeWhole(this.#file, text);
    }
    for (const { text } of lines) await writeWhole(this.#file, text);
    const unsynced = [...this.#unsynced, ...lines.map(({ text }) => text)];
    if (this.#torn || unsynced.length > maxUnsynced || lines.some(({ durable }) => durable)) {
      await this.#file.datasync();
      this.#unsynced = [];
      this.#torn = false;
    } else {
      this.#unsynced = unsynced;
    }
  }

  /** The next attempt opens the file anew: after a failed fsync, or on a stale handle, the old one is good for nothing. */
  async #reset(): Promise<void> {
    const file = this.#file;
    this.#file = undefined;
    this.#torn = true;
    await file?.close().catch(() => {});
  }

  /** @returns false when there is no time for another attempt. */
  async #pause(ms: number): Promise<boolean> {
    try {
      await this.#clock.sleep(ms, this.#closeSignal.signal);
      return true;
    } catch {
      return false;
    }
  }

  #giveUpSoon(): void {
    void this.#clock.sleep(closingMs, this.#closed.signal).then(
      () => this.#closeSignal.abort(),
      () => {},
    );
  }

  async #close(): Promise<void> {
    this.#giveUpSoon();
    await this.#writing;
    this.#closed.abort();
    const file = this.#file;
    this.#file = undefined;
    try {
      if (this.#unsynced.length > 0) await file?.datasync();
      await file?.close();
    } catch (cause) {
      throw new JournalError("close the journal", this.path, cause);
    }
    if (this.#lost !== undefined) throw this.#lost;
  }
}

function patienceWith(cause: unknown): number {
  return needPerson.includes(errnoName(cause) ?? "") ? shortPatienceMs : patienceMs;
}

/** One write() unless the system takes only a part. */
async function writeWhole(file: JournalFile, text: string): Promise<void> {
  let rest = Buffer.from(text);
  while (rest.length > 0) {
    const { bytesWritten } = await file.write(rest);
    rest = rest.subarray(bytesWritten);
  }
}
