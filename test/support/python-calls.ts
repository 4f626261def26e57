import { execFileSync, spawn } from "node:child_process";
import { tmpdir, userInfo } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { root } from "./require.ts";

export const planFixtures = join(root, "test/fixtures/tasks/plan");

/** Where tests keep lm_eval's index between runs: building it takes ten seconds, and it checks itself. */
export const indexCache = join(tmpdir(), `eval-hive-test-index-${userInfo().uid}`);

const environment = {
  ...process.env,
  PYTHONPATH: join(root, "harness"),
  PYTHONDONTWRITEBYTECODE: "1",
  HF_HUB_OFFLINE: "1",
};

export interface PythonCalls extends AsyncDisposable {
  /** @throws what the function raises, with type and message. */
  call<T>(module: string, name: string, args: readonly unknown[], cwd?: string): Promise<T>;
}

/** A Python process that calls functions of the harness package, one after another. */
export function startPythonCalls(python: string): PythonCalls {
  const child = spawn(python, [join(root, "test/fixtures/tasks/calls.py")], {
    env: environment,
    stdio: ["pipe", "pipe", "inherit"],
  });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const ended = new Promise<void>((resolve) => child.once("close", () => resolve()));
  return {
    call: async (module, name, args, cwd = planFixtures) => {
      child.stdin.write(`${JSON.stringify({ module, function: name, arguments: args, cwd })}\n`);
      const { value: line, done } = await lines.next();
      if (done) throw new Error(`Python ended during ${module}.${name}`);
      const answer = JSON.parse(line);
      if (answer.error !== undefined) throw new Error(answer.error);
      return answer.value;
    },
    [Symbol.asyncDispose]: async () => {
      child.stdin.end();
      await ended;
    },
  };
}

/** The JSON that a script of test/fixtures/tasks prints. */
export function runTaskScript<T>(python: string, script: string, args: readonly string[]): T {
  return JSON.parse(
    execFileSync(python, [join(root, "test/fixtures/tasks", script), ...args], {
      env: environment,
      encoding: "utf8",
      maxBuffer: 1 << 28,
      stdio: ["ignore", "pipe", "pipe"],
    }),
  );
}
