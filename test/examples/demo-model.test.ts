import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, test } from "node:test";
import fc from "fast-check";
import { complete, parseRequest, RequestError } from "../../examples/demo/completions.ts";
import { endOfText, growContextTree, vocabularySize } from "../../examples/demo/context-tree.ts";
import { writeHeldOutText, writeTrainingText } from "../../examples/demo/corpus.ts";
import { renderCurves, renderSparkline, type Score } from "../../examples/demo/curves.ts";
import {
  encodeDocuments,
  type NgramModel,
  openNgramModel,
} from "../../examples/demo/ngram-model.ts";
import { bytesPerStep } from "../../examples/demo/train.ts";
import { makeQuestions } from "../../examples/demo/write-tasks.ts";
import { root } from "../support/require.ts";

function trainModel(bytes: number, order = 10): NgramModel {
  const text = encodeDocuments(writeTrainingText(bytes)).slice(0, bytes);
  return openNgramModel(growContextTree(text, order));
}

function bitsPerByte(model: NgramModel, documents: readonly string[]): number {
  let bits = 0;
  let bytes = 0;
  for (const document of documents) {
    const symbols = encodeDocuments([document]).slice(0, -1);
    for (let at = 1; at < symbols.length; at++) {
      bits -= Math.log2(model.predict(symbols, at)[symbols[at] as number] as number);
    }
    bytes += symbols.length - 1;
  }
  return bits / bytes;
}

const model = trainModel(16_000);
const ask = (body: object) => complete(parseRequest(JSON.stringify(body)), model);

describe("the demo's model", () => {
  test("gives each symbol a probability, and all of them together 1, after any text", () => {
    const symbol = fc.integer({ min: 0, max: vocabularySize - 1 });
    const known = fc.integer({ min: 0, max: 200 }).map((end) => {
      const text = encodeDocuments(writeHeldOutText(2));
      return [...text.slice(0, end)];
    });
    fc.assert(
      fc.property(fc.oneof(fc.array(symbol), known), (text) => {
        const probabilities = model.predict(text, text.length);
        const sum = probabilities.reduce((total, one) => total + one, 0);
        assert.ok(Math.abs(sum - 1) < 1e-9, `sum ${sum}`);
        assert.ok(probabilities.every((one) => one > 0 && one < 1));
      }),
    );
  });

  test("looks no further back than its order, nor past the start of a document", () => {
    const shallow = trainModel(8_000, 3);
    const tail = [...Buffer.from("The")];
    const after = (text: number[]) => [...shallow.predict(text, text.length)];
    assert.deepEqual(after([...Buffer.from("duck")].concat(tail)), after([65, ...tail]));
    assert.deepEqual(after([65, endOfText, 84]), after([66, endOfText, 84]));
  });

  test("is less surprised by unread text the more it has read", () => {
    const documents = writeHeldOutText(40);
    const curve = [100, 200, 400, 800, 1600].map((step) =>
      bitsPerByte(trainModel(step * bytesPerStep), documents),
    );
    curve.push(bitsPerByte(trainModel(320_000, 16), documents));
    for (let at = 1; at < curve.length; at++) {
      assert.ok((curve[at] as number) < (curve[at - 1] as number), curve.join(" "));
    }
    assert.ok((curve[0] as number) < 2.5 && (curve.at(-1) as number) < 0.7, curve.join(" "));
  });
});

describe("the demo's text", () => {
  test("starts a longer one with the shorter one", () => {
    const short = writeTrainingText(10_000);
    assert.deepEqual(writeTrainingText(20_000).slice(0, short.length), short);
  });

  test("holds none of the documents kept for testing", () => {
    const read = new Set(writeTrainingText(320_000));
    assert.deepEqual(
      writeHeldOutText(40).filter((document) => read.has(document)),
      [],
    );
  });

  test("makes the questions that tasks/data holds", async () => {
    for (const [name, questions] of makeQuestions()) {
      const lines = questions.map((question) => `${JSON.stringify(question)}\n`).join("");
      const file = await readFile(join(root, "examples/demo/tasks/data", name), "utf8");
      assert.equal(file, lines, `${name} is old: run node examples/demo/write-tasks.ts`);
    }
  });
});

describe("completions", () => {
  const text = "The cow says moo.\n";
  const ids = [...Buffer.from(text)];

  test("take a prompt as text, texts, ids or lists of ids", () => {
    const [one] = ask({ prompt: text, max_tokens: 8, temperature: 0, logprobs: 1 }).choices;
    for (const prompt of [[text, text], ids, [ids, ids, ids]]) {
      const { choices } = ask({ prompt, max_tokens: 8, temperature: 0, logprobs: 1 });
      assert.deepEqual(
        choices,
        choices.map((_, index) => ({ ...one, index })),
      );
    }
  });

  test("echo the prompt with the log-probability of each token, the first one's unknown", () => {
    const { choices, usage } = ask({
      prompt: ids,
      max_tokens: 1,
      temperature: 0,
      echo: true,
      logprobs: 1,
    });
    const logprobs = choices[0]?.logprobs;
    assert.equal(logprobs?.token_logprobs.length, ids.length + 1);
    assert.equal(logprobs.token_logprobs[0], null);
    assert.equal(logprobs.tokens.slice(0, ids.length).join(""), text);
    assert.deepEqual(logprobs.text_offset.slice(0, 3), [0, 1, 2]);
    assert.deepEqual(usage, { prompt_tokens: 18, completion_tokens: 1, total_tokens: 19 });
    const expected = Math.log(model.predict(ids, 5)[ids[5] as number] as number);
    assert.ok(Math.abs((logprobs.token_logprobs[5] as number) - expected) < 1e-6);
  });

  test("tell as many alternatives as asked for, all of them making 1, and the token itself in any case", () => {
    const body = { prompt: "The zebra é", max_tokens: 0, echo: true };
    const all = ask({ ...body, logprobs: vocabularySize }).choices[0]?.logprobs?.top_logprobs ?? [];
    for (const top of all.slice(1)) {
      const sum = Object.values(top ?? {}).reduce((total, one) => total + Math.exp(one), 0);
      assert.ok(Math.abs(sum - 1) < 1e-5, `sum ${sum}`);
    }
    const few = ask({ ...body, logprobs: 1 }).choices[0]?.logprobs;
    few?.top_logprobs.slice(1).forEach((top, index) => {
      const token = few.tokens[index + 1] as string;
      assert.equal(top?.[token], few.token_logprobs[index + 1]);
      assert.ok(Object.keys(top ?? {}).length <= 2);
    });
  });

  test("end before a stop text, and at the end of the text", () => {
    const prompt = "The cow says";
    const [stopped] = ask({ prompt, max_tokens: 50, temperature: 0, stop: ["zz", "oo"] }).choices;
    assert.deepEqual([stopped?.text, stopped?.finish_reason], [" m", "stop"]);
    const [cut] = ask({ prompt, max_tokens: 3, temperature: 0 }).choices;
    assert.deepEqual([cut?.text, cut?.finish_reason], [" mo", "length"]);
    const [ended] = ask({ prompt, max_tokens: 4_000, temperature: 0 }).choices;
    assert.deepEqual([ended?.finish_reason, ended?.text.includes("endoftext")], ["stop", false]);
  });

  test("repeat themselves for a seed, and differ between seeds", () => {
    const sample = (seed: number) =>
      ask({ prompt: "The", max_tokens: 40, temperature: 1, seed }).choices[0]?.text;
    assert.equal(sample(1), sample(1));
    assert.ok(new Set([1, 2, 3, 4].map(sample)).size > 1);
  });

  test("refuse what they do not understand", () => {
    for (const body of [
      "",
      "[",
      "null",
      "{}",
      `{"prompt":[[300]]}`,
      `{"prompt":[]}`,
      `{"prompt":"a","stop":3}`,
    ]) {
      assert.throws(() => parseRequest(body), RequestError, body);
    }
  });
});

test("curves have a column per step, a line per task and metric, and dots for what is missing", () => {
  const row = (step: bigint | null, score: number): Score => ({
    model: "m",
    step,
    task: "t",
    metric: "acc",
    metric_filter: "none",
    score,
    higher_is_better: true,
  });
  const rows = [row(200n, 0.5), row(100n, 0.25), row(null, 0.75), { ...row(100n, 7), task: "u" }];
  assert.deepEqual(renderCurves(rows).split("\n"), [
    "model  task  metric  better  step 100  step 200  curve  final",
    "m      t     acc     ↑          0.250     0.500     ▁█  0.750",
    "m      u     acc     ↑          7.000         .     ▁.      .",
    "",
  ]);
  assert.equal(renderSparkline([3, 1, 2]), "█▁▅");
});
