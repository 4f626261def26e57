import { stat } from "node:fs/promises";
import { messageOf } from "../base/errors.ts";
import { parseAnswerHead } from "./answer-head.ts";
import { EarlierAnswers, type Kept } from "./earlier-answers.ts";
import type { HeldBytes } from "./held-bytes.ts";
import {
  type AnswerRecord,
  headerBytes,
  renderHeader,
  renderLine,
  sealOf,
} from "./journal-format.ts";
import { JournalWriter } from "./journal-writer.ts";
import type { HeldAnswer } from "./reply.ts";
import type { AnswerKeeping, ForwardRequest } from "./request.ts";
import { requestKey } from "./request-key.ts";

/** Bytes that some journals may have together. */
export interface JournalBudget {
  bytes: number;
  limitBytes: number;
}

export interface RequestJournalOptions {
  /** Of earlier evaluations: their answers are given again. */
  readonly read: readonly string[];
  /** What earlier processes have written of this evaluation: never given again. */
  readonly own: readonly string[];
  /** Where this process writes: no file is there yet. */
  readonly write: string;
  readonly limitBytes: number;
  readonly budget: JournalBudget;
  readonly held: HeldBytes;
  /** Nothing more is kept, and why. Called at most once. */
  readonly onOff: (reason: string) => void;
}

/**
 * The answered requests of one evaluation: those of its earlier, interrupted attempts, each of which is given once, and those of
 * this one, which are only written down. It opens when a request comes and the servers are known.
 */
export class RequestJournal implements AnswerKeeping {
  readonly #options: RequestJournalOptions;
  readonly #servers = Promise.withResolvers<string | undefined>();
  /** Undefined: not known yet. */
  #identity: { readonly of: string | undefined } | undefined;
  #opening: Promise<void> | undefined;
  #isOpen = false;
  #earlier: EarlierAnswers | undefined;
  #writer: JournalWriter | undefined;
  #bytes = 0;
  /** Answers are not kept any more. */
  #isOff = false;
  #isClosed = false;

  constructor(options: RequestJournalOptions) {
    this.#options = options;
  }

  /** @param identity of all servers that are up; equal ones give equal answers. Undefined: they can't be told apart. */
  setServers(identity: string | undefined): void {
    if (this.#identity === undefined) {
      this.#identity = { of: identity };
      this.#servers.resolve(identity);
    } else if (this.#identity.of !== identity) {
      this.#turnOff("its servers are not what they were");
      void this.#leaveEarlier();
    }
  }

  isInQuestion({ method, body }: ForwardRequest): boolean {
    if (method !== "POST" || !body.complete || !body.replayable) return false;
    return !this.#isOpen || this.#earlier !== undefined;
  }

  async find(request: ForwardRequest): Promise<HeldAnswer | undefined> {
    this.#opening ??= this.#open();
    await this.#opening;
    const earlier = this.#earlier;
    if (earlier === undefined) return undefined;
    const kept = earlier.take(keyOf(request));
    if (kept === undefined) return undefined;
    const reading = earlier.read(kept);
    if (earlier.isEmpty) void this.#leaveEarlier();
    const bytes = await reading;
    // A balancer that takes our place must know that it was given, before it is.
    if (bytes === undefined || !(await this.#note(kept))) return undefined;
    return this.#hold(request.method, bytes.head, bytes.body);
  }

  keep(request: ForwardRequest, answer: HeldAnswer): void {
    if (this.#writer === undefined || this.#isOff || !isOfUse(request, answer)) return;
    const { chunks, size } = answer;
    const text = renderAnswerHead(answer);
    const start = Buffer.allocUnsafe(headerBytes + text.length);
    const bytes = start.length + size;
    if (!this.#hasRoomFor(bytes)) return;
    start.write(text, headerBytes, "latin1");
    const record: AnswerRecord = {
      kind: "answer",
      key: keyOf(request),
      headBytes: text.length,
      bodyBytes: size,
      seal: sealOf([start.subarray(headerBytes), ...chunks]),
    };
    renderHeader(record, start);
    if (this.#writer.append([start, ...chunks])) {
      this.#bytes += bytes;
      this.#options.budget.bytes += bytes;
    }
  }

  /** Resolves when nothing more is written or read. */
  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#servers.resolve(undefined);
    await this.#opening;
    await this.#writer?.close();
    await this.#leaveEarlier();
    this.#options.budget.bytes -= this.#bytes;
  }

  async #open(): Promise<void> {
    const identity = await this.#servers.promise;
    if (!this.#isClosed && identity === undefined) {
      this.#turnOff("its servers can't be told from others, or from each other");
    }
    if (!this.#isClosed && identity !== undefined) {
      const { read, own, write, budget } = this.#options;
      // A balancer that takes another's place goes on counting, or one that dies often fills the disk.
      for (const path of own) this.#bytes += await sizeOf(path);
      budget.bytes += this.#bytes;
      this.#writer = new JournalWriter({
        path: write,
        line: renderLine(identity),
        // Else it says what has been given of earlier ones.
        isDispensable: read.length === 0,
        onError: (error) => {
          this.#turnOff(`it can't be written: ${messageOf(error)}`);
          void this.#leaveEarlier();
        },
      });
      if (read.length > 0) {
        const earlier = await EarlierAnswers.open(read, own, identity);
        if (this.#isClosed || this.#isOff || earlier.isEmpty) await earlier.close();
        else this.#earlier = earlier;
      }
    }
    this.#isOpen = true;
  }

  /** @returns false when it could not be noted. */
  async #note({ journal, at }: Kept): Promise<boolean> {
    if (this.#writer?.append([renderHeader({ kind: "used", journal, at })]) !== true) return false;
    return await this.#writer.flushed();
  }

  #hasRoomFor(bytes: number): boolean {
    const { limitBytes, budget } = this.#options;
    if (this.#bytes + bytes > limitBytes) {
      this.#turnOff(`it has reached its limit of ${mib(limitBytes)}`);
    } else if (budget.bytes + bytes > budget.limitBytes) {
      this.#turnOff(`the journals have reached their limit of ${mib(budget.limitBytes)}`);
    }
    return !this.#isOff;
  }

  #turnOff(reason: string): void {
    if (this.#isOff || this.#isClosed) return;
    this.#isOff = true;
    this.#options.onOff(reason);
  }

  async #leaveEarlier(): Promise<void> {
    const earlier = this.#earlier;
    this.#earlier = undefined;
    await earlier?.close();
  }

  #hold(method: string, head: string, body: Buffer): HeldAnswer {
    const { held } = this.#options;
    held.take(body.length);
    let isHeld = true;
    return {
      head: parseAnswerHead(head, method),
      chunks: [body],
      size: body.length,
      release: () => {
        if (isHeld) held.give(body.length);
        isHeld = false;
      },
    };
  }
}

/** Nothing where there is no file. */
async function sizeOf(path: string): Promise<number> {
  return await stat(path).then(
    ({ size }) => size,
    () => 0,
  );
}

function isOfUse({ method, body }: ForwardRequest, { head, chunks }: HeldAnswer): boolean {
  // What is encoded for one client may be of no use to another one.
  return (
    method === "POST" &&
    body.complete &&
    body.replayable &&
    head.status >= 200 &&
    head.status <= 299 &&
    head.contentEncoding === undefined &&
    chunks.length > 0
  );
}

function keyOf({ method, path, body }: ForwardRequest): string {
  return requestKey(method, path, body.chunks);
}

function renderAnswerHead({ head: { status, reason, fields }, size }: HeldAnswer): string {
  let text = `HTTP/1.1 ${status} ${reason}`;
  for (let at = 0; at < fields.length; at += 2) text += `\r\n${fields[at]}: ${fields[at + 1]}`;
  return `${text}\r\nContent-Length: ${size}`;
}

function mib(bytes: number): string {
  return `${Math.round(bytes / 2 ** 20)} MiB`;
}
