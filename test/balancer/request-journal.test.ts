import assert from "node:assert/strict";
import { readdir, readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, test } from "node:test";
import fc from "fast-check";
import { EarlierAnswers } from "../../src/balancer/earlier-answers.ts";
import { HeldBytes } from "../../src/balancer/held-bytes.ts";
import { Journals } from "../../src/balancer/journals.ts";
import type { HeldAnswer } from "../../src/balancer/reply.ts";
import type { AnswerKeeping, ForwardRequest } from "../../src/balancer/request.ts";
import { requestKey } from "../../src/balancer/request-key.ts";
import { Tally } from "../../src/balancer/tally.ts";
import { temporaryDirectory } from "../support/temporary.ts";

function requestOf(body: string, changes: Partial<ForwardRequest> = {}): ForwardRequest {
  const chunks = [Buffer.from(body)];
  return {
    id: 1,
    method: "POST",
    path: "/v1/completions",
    fields: [],
    body: { complete: true, replayable: true, chunks } as unknown as ForwardRequest["body"],
    tally: new Tally(),
    journal: undefined,
    ...changes,
  };
}

function answerOf(body: string, changes: Partial<HeldAnswer["head"]> = {}): HeldAnswer {
  const bytes = Buffer.from(body);
  const head: HeldAnswer["head"] = {
    status: 200,
    reason: "OK",
    fields: ["Content-Type", "application/json", "X-Server", "\u00fc"],
    framing: { kind: "length", bytes: bytes.length },
    keepAlive: true,
    contentType: "application/json",
    contentEncoding: undefined,
    retryAfter: undefined,
    ...changes,
  };
  // In pieces, as they come.
  const cut = bytes.length >> 1;
  const chunks = [bytes.subarray(0, cut), bytes.subarray(cut)];
  return { head, chunks, size: bytes.length, release: () => {} };
}

interface Evaluation extends AsyncDisposable {
  readonly journal: AnswerKeeping;
  readonly off: string[];
  /** Asks as a client does: from the journal, or else of a server that answers so. */
  ask(body: string, served?: string): Promise<string>;
  close(): Promise<void>;
}

interface EvaluationFiles {
  readonly read?: readonly string[];
  readonly own?: readonly string[];
  readonly write: string;
  readonly identity?: string | undefined;
  readonly limitBytes?: number;
  readonly budgetBytes?: number;
}

const mib = 1 << 20;

function evaluate(files: EvaluationFiles): Evaluation {
  const { read = [], own = [], write, limitBytes = mib, budgetBytes = mib } = files;
  const journals = new Journals(new HeldBytes(mib));
  const off: string[] = [];
  const budget = { name: "unit", limitBytes: budgetBytes };
  const onOff = (reason: string) => void off.push(reason);
  journals.setServers(1, "identity" in files ? files.identity : "servers");
  journals.open({ account: "a", part: "0", read, own, write, limitBytes, budget, onOff });
  const journal = journals.find("a", "0");
  assert.ok(journal !== undefined);
  return {
    journal,
    off,
    ask: async (body, served = "asked") => {
      const request = requestOf(body);
      const found = journal.isInQuestion(request) ? await journal.find(request) : undefined;
      if (found === undefined) {
        journal.keep(request, answerOf(served));
        return served;
      }
      return Buffer.concat(found.chunks).toString();
    },
    close: () => journals.closeAll(),
    [Symbol.asyncDispose]: () => journals.closeAll(),
  };
}

/** A journal with these answers: request and answer in turn. */
async function keepAll(write: string, ...all: readonly [string, string][]): Promise<void> {
  await using evaluation = evaluate({ write });
  for (const [body, served] of all) assert.equal(await evaluation.ask(body, served), served);
}

/** The answers that a journal has to these requests. */
async function giveAll(path: string, bodies: readonly string[]): Promise<string[]> {
  const earlier = await EarlierAnswers.open([path], [], "servers");
  const answers: string[] = [];
  for (const body of bodies) {
    const kept = earlier.take(requestKey("POST", "/v1/completions", [Buffer.from(body)]));
    const bytes = kept === undefined ? undefined : await earlier.read(kept);
    if (bytes !== undefined) answers.push(bytes.body.toString());
  }
  await earlier.close();
  return answers;
}

describe("the key of a request", () => {
  test("is the same however its body is cut, and another one for any other request", () => {
    const key = (body: Buffer[], path = "/p", method = "POST") => requestKey(method, path, body);
    fc.assert(
      fc.property(
        fc.uint8Array({ minLength: 1, maxLength: 200 }),
        fc.array(fc.nat(200), { maxLength: 4 }),
        fc.nat(),
        (bytes, cuts, at) => {
          const whole = Buffer.from(bytes);
          const ends = [...cuts.map((cut) => cut % whole.length), whole.length].sort(
            (a, b) => a - b,
          );
          const pieces = ends.map((end, n) => whole.subarray(ends[n - 1] ?? 0, end));
          assert.equal(key(pieces), key([whole]));
          const other = Buffer.from(whole);
          other[at % whole.length] = ((other[at % whole.length] as number) + 1) & 0xff;
          assert.notEqual(key([other]), key([whole]));
          assert.notEqual(key([whole, Buffer.of(0)]), key([whole]));
        },
      ),
    );
    const body = [Buffer.from("{}")];
    assert.equal(new Set([key(body), key(body, "/q"), key(body, "/p", "PUT"), key([])]).size, 4);
  });
});

describe("a request journal", () => {
  test("gives the answers of an earlier evaluation as they were, each once, and none of its own", async () => {
    await using directory = await temporaryDirectory();
    const [first, second] = [join(directory.path, "1"), join(directory.path, "2")];
    await keepAll(first, ["r", "{1}"], ["r", "{2}"], ["s", "{}"]);
    await using evaluation = evaluate({ read: [first], write: second });
    const found = await evaluation.journal.find(requestOf("s"));
    const { head, chunks, size } = found ?? assert.fail();
    const { fields, status, reason, framing } = head;
    assert.deepEqual([status, reason, framing], [200, "OK", { kind: "length", bytes: 2 }]);
    assert.deepEqual(fields, answerOf("{}").head.fields);
    assert.deepEqual([Buffer.concat(chunks).toString(), size], ["{}", 2]);
    const asked = ["r", "new", "r", "r", "new", "s"];
    const answers: string[] = [];
    for (const [n, body] of asked.entries()) answers.push(await evaluation.ask(body, `asked ${n}`));
    assert.deepEqual(answers, ["{1}", "asked 1", "{2}", "asked 3", "asked 4", "asked 5"]);
  });

  test("gives what several evaluations before it got, and what was replayed in them stays", async () => {
    await using directory = await temporaryDirectory();
    const [first, second, third] = ["1", "2", "3"].map((name) => join(directory.path, name));
    await keepAll(first as string, ["r", "{1}"]);
    {
      await using evaluation = evaluate({ read: [first as string], write: second as string });
      assert.equal(await evaluation.ask("r"), "{1}");
      assert.equal(await evaluation.ask("s", "{2}"), "{2}");
    }
    const read = [first as string, second as string];
    await using evaluation = evaluate({ read, write: third as string });
    assert.deepEqual(
      [await evaluation.ask("r"), await evaluation.ask("s"), await evaluation.ask("r")],
      ["{1}", "{2}", "asked"],
    );
  });

  test("that takes the place of another in mid-evaluation gives nothing twice, and nothing of its own", async () => {
    await using directory = await temporaryDirectory();
    const [earlier, before, after] = ["1", "2", "3"].map((name) => join(directory.path, name));
    await keepAll(earlier as string, ["r", "{1}"], ["r", "{2}"], ["s", "{3}"]);
    const read = [earlier as string];
    {
      await using evaluation = evaluate({ read, write: before as string });
      assert.equal(await evaluation.ask("r"), "{1}");
      assert.equal(await evaluation.ask("t", "own"), "own");
    }
    await using evaluation = evaluate({ read, own: [before as string], write: after as string });
    const answers: string[] = [];
    for (const body of ["r", "r", "s", "t"]) answers.push(await evaluation.ask(body));
    assert.deepEqual(answers, ["{2}", "asked", "{3}", "asked"]);
  });

  test("has noted that an answer was given before it is", async () => {
    await using directory = await temporaryDirectory();
    const [earlier, own] = [join(directory.path, "1"), join(directory.path, "2")];
    await keepAll(earlier, ["r", "{1}"], ["s", "{2}"]);
    await using evaluation = evaluate({ read: [earlier], write: own });
    assert.equal(await evaluation.ask("r"), "{1}");
    // As the file is now: nobody has closed it.
    await using successor = evaluate({
      read: [earlier],
      own: [own],
      write: join(directory.path, "3"),
    });
    assert.equal(await successor.ask("r"), "asked");
  });

  test("that was cut anywhere gives what is whole before the cut", async () => {
    await using directory = await temporaryDirectory();
    const whole = join(directory.path, "whole");
    await keepAll(whole, ["r", "{1}"], ["s", "{2}"], ["t", "{3}"]);
    const bytes = await readFile(whole);
    const torn = join(directory.path, "torn");
    const found: number[] = [];
    for (let length = 0; length <= bytes.length; length++) {
      await writeFile(torn, bytes.subarray(0, length));
      const answers = await giveAll(torn, ["r", "s", "t"]);
      assert.deepEqual(answers, ["{1}", "{2}", "{3}"].slice(0, answers.length));
      found.push(answers.length);
    }
    assert.deepEqual(found, found.toSorted());
    assert.deepEqual(new Set(found), new Set([0, 1, 2, 3]));
    assert.deepEqual([found.at(-1), found.at(-2)], [3, 2]);
  });

  test("whose sectors were lost on the disk gives no answer that it was not given", async () => {
    await using directory = await temporaryDirectory();
    const whole = join(directory.path, "whole");
    const rights = { r: "1".repeat(1_700), s: "2".repeat(1_100), t: "{}" };
    await keepAll(whole, ...Object.entries(rights));
    const bytes = await readFile(whole);
    const spoilt = join(directory.path, "spoilt");
    for (let at = 0; at < bytes.length; at += 512) {
      const copy = Buffer.from(bytes);
      copy.fill(0, at, Math.min(at + 512, copy.length));
      await writeFile(spoilt, copy);
      const answers = await giveAll(spoilt, Object.keys(rights));
      assert.ok(answers.length < 3, `the sector at ${at}`);
      for (const answer of answers) assert.ok(Object.values(rights).includes(answer));
    }
  });

  test("of other servers gives nothing; where they are not known, nothing is kept, and it is said once", async () => {
    await using directory = await temporaryDirectory();
    const [first, second, third] = ["1", "2", "3"].map((name) => join(directory.path, name));
    await keepAll(first as string, ["r", "{1}"]);
    const read = [first as string];
    await using others = evaluate({ read, write: second as string, identity: "others" });
    assert.equal(await others.ask("r"), "asked");
    await using unknown = evaluate({ read, write: third as string, identity: undefined });
    assert.deepEqual([await unknown.ask("r"), await unknown.ask("r")], ["asked", "asked"]);
    await Promise.all([others.close(), unknown.close()]);
    assert.deepEqual((await readdir(directory.path)).sort(), ["1", "2"]);
    assert.deepEqual(others.off, []);
    assert.equal(unknown.off.length, 1);
  });

  test("keeps no answer that is refused, encoded, or to something else than a POST", async () => {
    await using directory = await temporaryDirectory();
    const path = join(directory.path, "1");
    await using evaluation = evaluate({ write: path });
    await evaluation.ask("r", "{1}");
    const { journal } = evaluation;
    journal.keep(requestOf("s"), answerOf("{}", { status: 404 }));
    journal.keep(requestOf("s"), answerOf("{}", { contentEncoding: "gzip" }));
    journal.keep(requestOf("s", { method: "GET" }), answerOf("{}"));
    await evaluation.close();
    await using next = evaluate({ read: [path], write: join(directory.path, "2") });
    assert.equal(await next.journal.find(requestOf("s")), undefined);
    assert.ok((await next.journal.find(requestOf("r"))) !== undefined);
  });

  test("is for its owner's eyes alone, and there is no file before there is an answer", async () => {
    await using directory = await temporaryDirectory();
    const path = join(directory.path, "1");
    await using evaluation = evaluate({ write: path });
    assert.equal(await evaluation.journal.find(requestOf("r")), undefined);
    assert.deepEqual(await readdir(directory.path), []);
    await evaluation.ask("r", "{1}");
    await evaluation.close();
    assert.equal((await stat(path)).mode & 0o777, 0o600);
  });

  for (const [what, limits] of Object.entries({
    "its own limit": { limitBytes: 1_000 },
    "the limit of all": { budgetBytes: 1_000 },
  })) {
    test(`that reaches ${what} keeps no more, says so once, and still gives`, async () => {
      await using directory = await temporaryDirectory();
      const [first, second] = [join(directory.path, "1"), join(directory.path, "2")];
      await keepAll(first, ["r", "{1}"], ["s", "{2}"]);
      await using evaluation = evaluate({ read: [first], write: second, ...limits });
      for (let n = 0; n < 20; n++) await evaluation.ask(`new ${n}`, "x".repeat(100));
      assert.equal(await evaluation.ask("r"), "{1}");
      await evaluation.close();
      assert.equal(evaluation.off.length, 1);
      assert.match(evaluation.off[0] as string, /limit of 0 MiB/);
      assert.ok((await stat(second)).size < 1_300);
    });
  }

  test("counts what its predecessors have written for the same evaluation", async () => {
    await using directory = await temporaryDirectory();
    const own: string[] = [];
    for (let life = 0; life < 4; life++) {
      const write = join(directory.path, `${life}`);
      await using evaluation = evaluate({ own: [...own], write, limitBytes: 1_000 });
      for (let n = 0; n < 20; n++) await evaluation.ask(`${life} ${n}`, "x".repeat(100));
      own.push(write);
      assert.equal(evaluation.off.length, 1);
    }
    const files = await readdir(directory.path);
    const sizes = await Promise.all(files.map((name) => stat(join(directory.path, name))));
    assert.ok(sizes.reduce((sum, { size }) => sum + size, 0) < 1_300);
  });

  test("that can't be written fails no request: it is off, and says so once", async () => {
    await using directory = await temporaryDirectory();
    const first = join(directory.path, "1");
    await keepAll(first, ["r", "{1}"], ["s", "{2}"]);
    // A file is no directory.
    const write = join(first, "2");
    await using evaluation = evaluate({ read: [first], write });
    // What can't be noted is not given.
    for (const body of ["r", "s", "t"]) assert.equal(await evaluation.ask(body), "asked");
    await evaluation.close();
    assert.equal(evaluation.off.length, 1);
    assert.match(evaluation.off[0] as string, /can't be written: .*E(NOTDIR|EXIST)/);
  });
});
