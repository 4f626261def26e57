import assert from "node:assert/strict";
import { chmod, readFile, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { sendSignal } from "../../src/base/proc.ts";
import type { Completed } from "../../src/base/spawn.ts";
import {
  ChangingPython,
  changeServer,
  evalHiveAsNobody,
  evalHiveInNamespace,
  evalHiveWith,
  requireMounts,
} from "../support/bad-places.ts";
import { callIn, evalHive } from "../support/eval-hive.ts";
import { processesOfRun } from "../support/processes.ts";
import { requirePython } from "../support/require.ts";
import { makeSmallPlace, type SmallPlace } from "../support/small-run.ts";
import { assertTidyResults } from "../support/whole-state.ts";

const leaves = 3;

/** What a command that could not do its work told, and how it ended. */
function assertTold(
  { code, stdout, stderr }: Pick<Completed, "code" | "stdout" | "stderr">,
  wanted: { code: number; message: RegExp; hint: RegExp },
): void {
  const told = stdout + stderr;
  assert.equal(code, wanted.code, told);
  assert.match(told, wanted.message);
  assert.match(told, wanted.hint);
}

/** None of the leaves is done, and nothing counts against any. */
async function assertUntouched(place: SmallPlace): Promise<void> {
  const { done, open, dead, invalid } = (await place.state()).leaves;
  assert.deepEqual({ done, open, dead, invalid }, { done: 0, open: leaves, dead: 0, invalid: 0 });
  assert.deepEqual(await processesOfRun(place.root), []);
}

async function editPlan(place: SmallPlace, change: (profile: Record<string, unknown>) => void) {
  const plan = JSON.parse(await readFile(place.layout.plan, "utf8"));
  for (const profile of Object.values(plan.profiles)) change(profile as Record<string, unknown>);
  await writeFile(place.layout.plan, JSON.stringify(plan));
}

/** How a command is called, if not simply so, and what that takes. */
interface Start {
  readonly start?: () => Promise<Completed>;
  /** False after the test was skipped. */
  readonly needs?: (t: TestContext) => Promise<boolean>;
}

test("a run in bad places says what is wrong and the way out each time, and loses nothing", async (t) => {
  const python = requirePython(t);
  const older = requirePython(t, "0.4.12");
  if (python === undefined || older === undefined) return;
  await using place = await makeSmallPlace({
    leaves,
    slots: 2,
    serverCommand: 'exec sh "$EH_TEST_RUN/server.sh"',
    config: { server_start_max_attempts: 1 },
  });
  const changing = new ChangingPython(place);
  const call = callIn(place, changing.path);
  const { layout } = place;
  const createRun = ["create-run", "-c", place.configFile, "-o", layout.directory];
  const run = ["run", layout.directory];
  await changeServer(place, "good");

  /** Planning fails, and leaves nothing. */
  const cannotPlan = async (title: string, wanted: Parameters<typeof assertTold>[1]) =>
    await t.test(title, async () => {
      assertTold(await evalHive(createRun, call), wanted);
      await assert.rejects(stat(layout.directory), { code: "ENOENT" });
    });
  await cannotPlan("no Python", {
    code: 3,
    message: /Cannot start Python: ".*\/python" can't be run/,
    hint: /--python, EVAL_HIVE_PYTHON, or "harness_command"/,
  });
  await changing.be(python, { flags: "-S" });
  await cannotPlan("no lm_eval", {
    code: 3,
    message: /python has no lm_eval/,
    hint: /pip install "lm_eval\[api\]>=0\.4\.12"/,
  });
  await changing.be(python, { searched: await changing.pretend("0.4.8") });
  await cannotPlan("an old lm_eval", {
    code: 3,
    message: /python has lm_eval 0\.4\.8, and 0\.4\.12 is the oldest that works/,
    hint: /pip install/,
  });

  await changing.be(python);
  const created = await evalHive(createRun, call);
  assert.equal(created.code, 0, created.stderr);

  /** The run ends without having evaluated anything. */
  const cannotRun = async (
    title: string,
    wanted: Parameters<typeof assertTold>[1],
    { start = () => evalHive(run, call), needs = async () => true }: Start = {},
  ) =>
    await t.test(title, async (subtest) => {
      if (!(await needs(subtest))) return;
      assertTold(await start(), wanted);
      await assertUntouched(place);
    });
  const planned = /Use the Python that the run was planned with, or plan again with --update/;

  await changing.be(older);
  await cannotRun("another lm_eval in the job than in the plan", {
    code: 3,
    message: /lm_eval 0\.4\.12 here, the run was planned with 0\.4\.13/,
    hint: planned,
  });
  await changing.be(python, { searched: await changing.patch(python) });
  await cannotRun("an lm_eval with a changed file", {
    code: 3,
    message: /lm_eval 0\.4\.13 here has other files than when the run was planned/,
    hint: planned,
  });
  await rm(changing.path);
  await cannotRun("no Python in the job", {
    code: 3,
    message: /Cannot start ".*\/python", the run's Python/,
    hint: planned,
  });
  await changing.be(python);

  await editPlan(place, (profile) => {
    // A config can't have less than a minute.
    profile["health_check_max_wait_s"] = 2;
  });
  await changeServer(place, "silent");
  await cannotRun("a server that never gets healthy", {
    code: 4,
    message: /small-0--main was given up: server-start: not healthy within 2 s: nothing listens/,
    hint: /correct inference_server_command or health_check_max_wait_minutes; then run again/,
  });
  await editPlan(place, (profile) => {
    profile["health_check_max_wait_s"] = 600;
  });
  await changeServer(place, "dies in each batch");
  await cannotRun("a server that dies in each batch", {
    code: 4,
    message: /given up: server-crash-loop: it ended 3 times in a row without answering/,
    hint: /Read the server's logs: .*; then run again/,
  });
  await changeServer(place, "cannot score");
  await cannotRun("a server that gives no log-probabilities, which would bring scores of chance", {
    code: 4,
    message:
      /given up: server-unfit: log-likelihoods can't be had from it: .* log-probabilities of a prompt are no numbers/,
    hint: /Correct the server's command, or leave the tasks out/,
  });
  await changeServer(place, "good");

  await cannotRun(
    "a file where the results should go",
    {
      code: 2,
      message: /Cannot write results to ".*\/results": ".*\/results" is a file/,
      hint: /Correct output_path/,
    },
    {
      start: async () => {
        await writeFile(place.results, "");
        const refused = await evalHive(run, call);
        await rm(place.results);
        return refused;
      },
    },
  );
  const inNamespace = (script: string): Start => ({
    start: () =>
      evalHiveInNamespace(`${script}\nexec "$@"`, run, {
        ...call,
        env: { ...call.env, RUN: layout.directory, RESULTS: place.results },
      }),
    needs: requireMounts,
  });
  await cannotRun(
    "a full disk under the results",
    {
      code: 3,
      message:
        /Cannot evaluate "small_0\d": a file can't be written: OSError: .*No space left on device: '.*\/results\//,
      hint: /Free space or inodes there/,
    },
    inNamespace('mkdir -p "$RESULTS"; mount -t tmpfs -o size=4k tmpfs "$RESULTS"'),
  );
  await cannotRun(
    "a full disk under the run directory",
    {
      code: 3,
      message: /Cannot .* in ".*\/runs\/small\/queue.*": the file system is full/,
      hint: /Nothing was lost/,
    },
    inNamespace(`cp -a "$RUN" "$RUN.copy"
mount -t tmpfs -o size=4m tmpfs "$RUN"
cp -a "$RUN.copy/." "$RUN"
rm -r "$RUN.copy"
head -c 8m /dev/zero > "$RUN/filler" 2> /dev/null || true`),
  );
  await cannotRun(
    "a read-only run directory",
    {
      code: 3,
      message: /Cannot .* in ".*\/runs\/small\/queue.*": the file system is read-only/,
      hint: /Nothing was lost/,
    },
    inNamespace('mount --bind "$RUN" "$RUN"; mount -o remount,ro,bind "$RUN"'),
  );
  await chmod(place.root, 0o755);
  const asNobody = await evalHiveAsNobody(run, call);
  if (asNobody !== undefined) {
    await t.test("somebody else's run directory", () => {
      assertTold(asNobody, {
        code: 3,
        message: /Cannot .* in ".*\/runs\/small\/queue.*": permission denied/,
        hint: /check owner, group and mode/,
      });
    });
  }

  await t.test(
    "with umask 077, 4 GB of addresses and all of that mended, it finishes",
    async () => {
      const done = await evalHiveWith("umask 077; ulimit -v 4194304", run, call);
      assert.equal(done.code, 0, done.stderr);
      await assertTidyResults(place, leaves);
      const collected = await evalHiveWith(
        "ulimit -v 4194304",
        ["collect", layout.directory],
        call,
      );
      assert.equal(collected.code, 0, collected.stderr);
      const { mode } = await stat(join(place.results, "small-0/main/eval-hive"));
      assert.equal(mode & 0o777, 0o700);
      const { dead, invalid } = (await place.state()).leaves;
      assert.deepEqual({ dead, invalid }, { dead: 0, invalid: 0 });
    },
  );
});

test("a server whose port a stranger has taken gets another port, and the stranger no request", async (t) => {
  const python = requirePython(t);
  if (python === undefined) return;
  await using place = await makeSmallPlace({
    leaves: 1,
    serverCommand: 'exec sh "$EH_TEST_RUN/server.sh"',
  });
  await changeServer(place, "stranger");
  await using _stranger = strangerOf(place);
  const call = callIn(place, python);
  const done = await evalHive(["run", place.configFile, "-o", place.layout.directory], call);
  assert.equal(done.code, 0, done.stderr);
  const starts = await place.events("server.starting");
  assert.equal(starts.length, 2);
  assert.notEqual(starts[0]?.port, starts[1]?.port);
  const answer = await fetch(`http://127.0.0.1:${starts[0]?.port}/stats`);
  assert.equal(((await answer.json()) as { completions: number }).completions, 0);
});

/** To be disposed before the place, which knows its pid. */
function strangerOf(place: SmallPlace): AsyncDisposable {
  return {
    [Symbol.asyncDispose]: async () => {
      const pid = await readFile(join(place.root, "stranger.pid"), "utf8").catch(() => undefined);
      if (pid !== undefined) sendSignal(Number(pid), "SIGKILL");
    },
  };
}
