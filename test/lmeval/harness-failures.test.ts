import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { cp, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import type { FailureClass } from "../../src/lmeval/failure-class.ts";
import { PlanError, type RunMessage } from "../../src/lmeval/harness.ts";
import type { Evaluation } from "../../src/lmeval/protocol.ts";
import {
  completionsEvaluation,
  evalTasks,
  ofType,
  type RunSettings,
  runBatch,
  startCompletionsServer,
} from "../support/evaluations.ts";
import { type BatchAnswer, describeOnBench, endsOf } from "../support/harness-bench.ts";
import { until } from "../support/until.ts";

/** lm_eval's model that answers at random, without a server. */
const dummy: Evaluation = { model_args: {}, lm_eval_args: { model: "dummy" } };

/** Why a batch failed: what it says of its leaf, or of itself. */
function failureOf({ messages }: Pick<BatchAnswer, "messages">) {
  const failure = [...ofType(messages, "leaf_failed"), ...ofType(messages, "error")][0];
  assert(failure !== undefined, `nothing failed: ${JSON.stringify(messages.at(-1))}`);
  return failure;
}

interface Case {
  readonly leaf: string;
  readonly class: FailureClass;
  readonly permanent?: boolean;
  /** The decisive line. */
  readonly message: RegExp;
  /** In the trace tail too. */
  readonly trace?: RegExp;
  readonly evaluation?: Evaluation;
  readonly given?: Partial<RunSettings>;
}

const cases: Record<string, Case> = {
  "process_docs that raises": {
    leaf: "ev_load_error",
    class: "load",
    message: /^ValueError: this data set is not what it was!+$/,
    trace: /in refuse_docs/,
  },
  "a module that nobody has": {
    leaf: "ev_missing_module",
    class: "missing-module",
    message: /^ModuleNotFoundError: No module named 'a_module_that_nobody_has'$/,
    trace: /import a_module_that_nobody_has/,
  },
  "a data set that is not in the cache": {
    leaf: "ev_missing_data",
    class: "data-offline",
    message: /there-is-no-such-data/,
  },
  "code that the model writes, without consent": {
    leaf: "ev_unsafe",
    class: "unsafe-code",
    permanent: true,
    message: /^"ev_unsafe" runs code that the model wrote: set .*confirm_run_unsafe_code/,
  },
  "log-likelihoods from a chat endpoint": {
    leaf: "ev_mc",
    class: "unsupported",
    permanent: true,
    message: /^NotImplementedError: Loglikelihood is not supported for chat completions/,
    evaluation: completionsEvaluation({
      lm_eval_args: { model: "local-chat-completions", apply_chat_template: true },
    }),
  },
  "log-likelihoods without a tokenizer": {
    leaf: "ev_mc",
    class: "unsupported",
    permanent: true,
    message: /^AssertionError: Tokenizer is required/,
    evaluation: completionsEvaluation({ model_args: { tokenizer_backend: "None" } }),
  },
  "a tokenizer that is not there": {
    leaf: "ev_mc",
    class: "model",
    message: /\/nowhere/,
    trace: /from_pretrained/,
    evaluation: completionsEvaluation({ model_args: { tokenizer: "/nowhere" } }),
  },
  "a metric that raises": {
    leaf: "ev_crash",
    class: "metric",
    message: /^ZeroDivisionError: this metric always crashes$/,
    trace: /in crash/,
  },
  "a task that calls sys.exit": {
    leaf: "ev_exit",
    class: "metric",
    message: /^SystemExit: this task leaves$/,
  },
  "more memory than there is": { leaf: "ev_memory", class: "memory", message: /^MemoryError/ },
  "a full disk under the data": {
    leaf: "ev_full_disk",
    class: "write",
    message: /^OSError: \[Errno 28\] No space left on device$/,
  },
  "a file where the results should go": {
    leaf: "ev_mc",
    class: "write",
    message: /^(NotADirectory|FileExists)Error: .*ev_mc\.yaml/,
    evaluation: dummy,
    given: { output_dir: join(evalTasks, "ev_mc.yaml/results") },
  },
  "a working directory that is gone": {
    leaf: "ev_mc",
    class: "other",
    message: /^FileNotFoundError: .*\/nowhere/,
    evaluation: dummy,
    given: { cwd: "/nowhere" },
  },
  "a variable that is not set": {
    leaf: "ev_mc",
    class: "other",
    message:
      /^eval_hive_harness\.\S*ArgumentsError: model_args\.model names "\$\{EV_MODEL\}", and EV_MODEL is not set$/,
    evaluation: completionsEvaluation({ model_args: { model: "${EV_MODEL}" } }),
  },
};

describeOnBench("why a leaf failed", {}, (bench) => {
  for (const [title, wanted] of Object.entries(cases)) {
    test(`${title}: ${wanted.class}`, async () => {
      const { evaluation, given } = wanted;
      const answer = await bench.run([wanted.leaf], {
        ...given,
        ...(evaluation === undefined ? {} : { evaluation }),
      });
      const failure = failureOf(answer);
      assert.equal(failure.class, wanted.class, failure.message);
      assert.equal(failure.permanent, wanted.permanent === true);
      assert.match(failure.message, wanted.message);
      assert.ok(failure.message.length <= 2_000);
      const trace = failure.trace_tail;
      assert.ok(trace.length > 0 && trace.length <= 20);
      assert.ok(trace.every((line) => line.length <= 500));
      assert.match(trace.join("\n"), wanted.trace ?? /./);
      assert.deepEqual([answer.ended.exit_code, answer.ended.leaf], [0, null]);
      const left = await readdir(join(answer.directory, "results")).catch(() => []);
      assert.deepEqual(left, []);
    });
  }

  test("a failed leaf does not end its batch, and the log has the whole traceback", async () => {
    const answer = await bench.run(["ev_crash", "ev_mc", "ev_missing_module", "ev_generate"]);
    assert.deepEqual(endsOf(answer), [
      ["ev_crash", "leaf_failed"],
      ["ev_mc", "leaf_done"],
      ["ev_missing_module", "leaf_failed"],
      ["ev_generate", "leaf_done"],
    ]);
    assert.match(await answer.log(), /^==== ev_crash$.*^ZeroDivisionError/ms);
  });

  test("with consent, code that the model writes is run", async () => {
    const lm_eval_args = { confirm_run_unsafe_code: true };
    const answer = await bench.run(["ev_unsafe"], {
      evaluation: completionsEvaluation({ lm_eval_args }),
    });
    assert.deepEqual(endsOf(answer), [["ev_unsafe", "leaf_done"]]);
  });

  test("a task that has changed since it was planned is not evaluated: task-changed", async () => {
    const suite = await bench.directory();
    await cp(join(evalTasks, "_mc_base"), join(suite, "_mc_base"));
    const file = join(suite, "ev_mine.yaml");
    await writeFile(file, "include: _mc_base\ntask: ev_mine\n");
    const planned = await bench.harness.plan({
      suites: ["ev_mine"],
      include_path: suite,
      cache_dir: suite,
      evaluations: { default: dummy },
    });
    const [leaf] = planned.leaves;
    assert(leaf !== undefined);
    const { id, name, source, overrides } = leaf;
    const fingerprint = planned.evaluations["default"]?.fingerprints[id] as string;
    const settings = {
      ...(await bench.settings([], { evaluation: dummy })),
      leaves: [{ id, name, source, overrides, fingerprint }],
    };
    await writeFile(file, "include: _mc_base\ntask: ev_mine\ndoc_to_text: '{{q}}'\n");
    const failure = failureOf(await runBatch(bench.harness, settings));
    assert.deepEqual([failure.class, failure.permanent], ["task-changed", true]);
    assert.match(failure.message, /^"ev_mine" is not the task that was planned.*--update/);
    await writeFile(file, "include: _mc_base\ntask: ev_mine\n");
    const { messages } = await runBatch(bench.harness, settings);
    assert.deepEqual(endsOf({ messages }), [["ev_mine", "leaf_done"]]);
  });

  test("two leaves of one name never share a child: the batch is refused", async () => {
    const planned = await bench.plan(["ev_mc", "ev_described"]);
    const settings = { ...(await bench.settings([])), leaves: Object.values(planned) };
    const answer = await runBatch(bench.harness, settings);
    const failure = failureOf(answer);
    assert.deepEqual([failure.type, failure.class], ["error", "other"]);
    assert.match(failure.message, /Leaves of one name never share a child: "ev_mc"/);
  });

  for (const concurrency of [1, 4]) {
    test(`a server that answers with errors: requests, with ${concurrency} at a time`, async () => {
      await using server = await startCompletionsServer(["--fail-first", "1000"]);
      const key = "a-key-that-nobody-may-see";
      const answer = await bench.run(["ev_mc"], {
        evaluation: completionsEvaluation({
          model_args: { num_concurrent: concurrency, header: { Authorization: `Bearer ${key}` } },
        }),
        base_url_prefix: `http://127.0.0.1:${server.port}/eh/secret-token/r1`,
        env: { EH_PORT: String(server.port) },
      });
      const failure = failureOf(answer);
      assert.deepEqual([failure.class, failure.permanent], ["requests", false]);
      assert.match(failure.message, /500.*<balancer>\/0\/v1\/completions/);
      assertSecret(answer.messages, await answer.log(), ["secret-token", key]);
    });

    test(`a server that is not there: requests, with ${concurrency} at a time`, async () => {
      const answer = await bench.run(["ev_mc"], {
        evaluation: completionsEvaluation({ model_args: { num_concurrent: concurrency } }),
        // Nobody listens at port 1.
        base_url_prefix: "http://127.0.0.1:1/eh/secret-token/r1",
        env: { EH_PORT: "1" },
      });
      const failure = failureOf(answer);
      assert.equal(failure.class, "requests");
      assert.match(failure.message, /Connect|refused/);
      assertSecret(answer.messages, await answer.log(), ["secret-token"]);
    });
  }

  test("a key in the environment is neither told nor logged, tracebacks included", async () => {
    const env = { HF_TOKEN: "a-token-that-nobody-may-see" };
    const answer = await bench.run(["ev_secret"], { env });
    assert.equal(failureOf(answer).message, "PermissionError: <secret> opens no door");
    const log = await answer.log();
    assert.match(log, /tried <secret>\n.*^PermissionError: <secret> opens no door/ms);
    assertSecret(answer.messages, log, [env.HF_TOKEN]);
  });

  test("answers that are no JSON, or hold no log-probabilities: requests", async () => {
    for (const flags of [
      ["--truncate-first", "1000"],
      ["--null-logprobs", "1"],
    ]) {
      await using server = await startCompletionsServer(flags);
      const failure = failureOf(
        await bench.run(["ev_mc"], {
          base_url_prefix: `http://127.0.0.1:${server.port}`,
          env: { EH_PORT: String(server.port) },
        }),
      );
      assert.equal(failure.class, "requests", failure.message);
    }
  });

  test("a plan whose process dies is answered: crash", async () => {
    const suite = await bench.directory();
    // Whoever reads it waits for ever.
    const pipe = join(suite, "endless.yaml");
    assert.equal(spawnSync(bench.python, ["-c", `import os; os.mkfifo("${pipe}")`]).status, 0);
    const { pid } = bench.harness.hello;
    const children = async () =>
      (await readFile(`/proc/${pid}/task/${pid}/children`, "utf8")).match(/\d+/g) ??
      ([] as string[]);
    const others: readonly string[] = await children();
    const planning = bench.harness.plan({
      suites: ["any"],
      include_path: suite,
      cache_dir: suite,
      evaluations: {},
    });
    const child = await until(async () => (await children()).find((one) => !others.includes(one)));
    process.kill(Number(child), "SIGSEGV");
    await assert.rejects(planning, (error) => {
      assert(error instanceof PlanError);
      assert.deepEqual([error.refusal.class, error.refusal.permanent], ["crash", false]);
      assert.match(error.message, /The process that planned ended with SIGSEGV/);
      return true;
    });
  });
});

/** Neither what is said nor what is logged holds any of it. */
function assertSecret(messages: readonly RunMessage[], log: string, secrets: string[]): void {
  for (const secret of secrets) {
    assert.ok(!JSON.stringify(messages).includes(secret), `a message holds ${secret}`);
    assert.ok(!log.includes(secret), `the log holds ${secret}`);
  }
}
