import assert from "node:assert/strict";
import { once } from "node:events";
import { readFile, rename, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { describe, test } from "node:test";
import { isOtherModel } from "../../src/agent/examine-server.ts";
import type { NodeReport, ServerSpec } from "../../src/agent/node-protocol.ts";
import { choosePort } from "../../src/agent/ports.ts";
import { type SupervisorOptions, superviseServer } from "../../src/agent/server-supervisor.ts";
import { type Clock, systemClock } from "../../src/base/clock.ts";
import { processesWithEnvironment, processStartTime, sendSignal } from "../../src/base/proc.ts";
import { temporaryDirectory } from "../support/temporary.ts";
import { until } from "../support/until.ts";

/** Answers /health and /v1/models; `health` and `models` are files that change its mind. */
const serverProgram = `
const { createServer } = require("node:http");
const { readFileSync } = require("node:fs");
const read = (name, otherwise) => { try { return readFileSync(name, "utf8").trim(); } catch { return otherwise; } };
createServer((request, response) => {
  if (request.url === "/health") response.statusCode = Number(read("health", "200"));
  const models = read("models", process.env.EH_MODEL_PATH);
  response.end(JSON.stringify({ data: models.split(",").map((id) => ({ id })) }));
}).listen(process.env.EH_PORT, "127.0.0.1");
console.log("serving", process.pid);
`;
const node = `"${process.execPath}" -e '${serverProgram}'`;

/** Time that passes as soon as somebody waits for it: an hour in a few seconds. */
function hastyClock(): Clock & { readonly slept: number[] } {
  const slept: number[] = [];
  let passedMs = 0;
  return {
    slept,
    now: () => systemClock.now(),
    monotonic: () => passedMs,
    sleep: async (ms, signal) => {
      slept.push(ms);
      await systemClock.sleep(Math.min(Math.ceil(ms / 20), 10), signal);
      passedMs += ms;
    },
  };
}

interface Supervised extends AsyncDisposable {
  readonly reports: NodeReport[];
  readonly clock: ReturnType<typeof hastyClock>;
  /** Waits for the n-th report of a type, from 1. */
  report<T extends NodeReport["type"]>(
    type: T,
    n?: number,
  ): Promise<Extract<NodeReport, { type: T }>>;
  types(): string[];
  /** Of everything that carries the test's mark. */
  pids(): Promise<number[]>;
  stop(): Promise<void>;
}

/** In one step, so that a server never reads half of it. */
async function change(path: string, text: string): Promise<void> {
  await writeFile(`${path}.new`, text);
  await rename(`${path}.new`, path);
}

let marks = 0;

function supervise(
  directory: string,
  command: string,
  given: Partial<ServerSpec> = {},
  options: Partial<SupervisorOptions> = {},
): Supervised {
  const mark = `supervisor-${process.pid}-${++marks}`;
  const reports: NodeReport[] = [];
  const clock = hastyClock();
  const stop = new AbortController();
  const env = { PATH: process.env["PATH"], TEST_MARK: mark, ...options.env };
  const ended = superviseServer(
    {
      server: 0,
      key: "k",
      command,
      env: { EH_MODEL_PATH: "/models/one" },
      env_vars: {},
      cwd: directory,
      log_prefix: join(directory, "server-0"),
      host: "127.0.0.1",
      max_wait_s: 600,
      health_interval_s: 5,
      share: { index: 0, of: 1 },
      start_attempts: 3,
      model: "/models/one",
      ...given,
    },
    { report: (report) => reports.push(report), signal: stop.signal, clock, ...options, env },
  );
  const end = async (): Promise<void> => {
    stop.abort();
    await ended;
  };
  return {
    reports,
    clock,
    report: async (type, n = 1) =>
      await until(() => {
        const found = reports.filter((report) => report.type === type)[n - 1];
        return found as Extract<NodeReport, { type: typeof type }> | undefined;
      }),
    types: () => reports.map(({ type }) => type),
    pids: async () => await processesWithEnvironment("TEST_MARK", mark),
    stop: end,
    [Symbol.asyncDispose]: end,
  };
}

describe("a server", () => {
  test("is started by bash with what it needs to know, and without what misleads it", async () => {
    await using directory = await temporaryDirectory("eval hive ");
    await using server = supervise(
      directory.path,
      `env > env.txt; echo "$HOME_OF_CACHE" > expanded.txt; exec ${node}`,
      {
        env: {
          EH_TASK_KEY: "one--main",
          EH_MODEL_KEY: "one",
          EH_LABEL: "main",
          EH_MODEL_PATH: "/models/one",
        },
        env_vars: {
          CACHE: "/scratch/${EH_SERVER_ID}/$(echo cache)",
          HOME_OF_CACHE: "${CACHE}/${EH_LABEL}",
        },
      },
      { env: { http_proxy: "http://proxy:1", HTTPS_PROXY: "http://proxy:1", KEPT: "kept" } },
    );
    const { port, url, start_attempt } = await server.report("healthy");
    assert.deepEqual([url, start_attempt], [`http://127.0.0.1:${port}`, 1]);
    const env = await readFile(join(directory.path, "env.txt"), "utf8");
    const values = new Map(env.split("\n").map((line) => line.split("=", 2) as [string, string]));
    for (const [name, value] of Object.entries({
      EH_PORT: String(port),
      EH_BACKEND_PORT: String(port),
      EH_SERVER_ID: "0",
      EH_TASK_KEY: "one--main",
      EH_MODEL_KEY: "one",
      EH_LABEL: "main",
      EH_MODEL_PATH: "/models/one",
      NO_COLOR: "1",
      KEPT: "kept",
      http_proxy: undefined,
      HTTPS_PROXY: undefined,
    })) {
      assert.equal(values.get(name), value, name);
    }
    const expanded = await readFile(join(directory.path, "expanded.txt"), "utf8");
    assert.equal(expanded, "/scratch/0/cache/main\n");
    assert.match(await readFile(join(directory.path, "server-0-attempt1.log"), "utf8"), /^serving/);
  });

  test("whose variables can't be expanded is given up with bash's own words", async () => {
    await using directory = await temporaryDirectory();
    await using server = supervise(directory.path, node, { env_vars: { A: "$(exit 3" } });
    assert.match((await server.report("failed")).reason, /Cannot expand env_vars: .*unexpected/s);
  });

  test("starts anew, after growing pauses, until it has failed as often as it may", async () => {
    await using directory = await temporaryDirectory();
    await using server = supervise(directory.path, 'echo "no GPU"; exit 3');
    const { reason, log_tail } = await server.report("failed");
    assert.deepEqual([reason, log_tail], ["the server ended (exit code 3)", ["no GPU"]]);
    assert.deepEqual(server.types(), [
      "starting",
      "down",
      "starting",
      "down",
      "starting",
      "failed",
    ]);
    const logs = server.reports.flatMap((report) => (report.type === "starting" ? report.log : []));
    assert.deepEqual(
      logs,
      [1, 2, 3].map((k) => join(directory.path, `server-0-attempt${k}.log`)),
    );
    const pauses = server.clock.slept.filter((ms) => ms >= 500);
    assert.deepEqual([pauses.includes(500), pauses.includes(1_000)], [true, true]);
  });

  test("that does not get healthy in time is ended, with what it answered last", async () => {
    await using directory = await temporaryDirectory();
    await writeFile(join(directory.path, "health"), "503");
    const given = { start_attempts: 1, max_wait_s: 4 };
    await using server = supervise(directory.path, `exec ${node}`, given);
    const { reason } = await server.report("failed");
    assert.match(reason, /^not healthy within 4 s: (\/health answers 503|nothing listens)/);
    assert.deepEqual(await server.pids(), []);
  });

  test("that is killed in mid-run is started again", async () => {
    await using directory = await temporaryDirectory();
    await using server = supervise(directory.path, `exec ${node}`);
    await server.report("healthy");
    for (const pid of await server.pids()) sendSignal(pid, "SIGKILL");
    await server.report("healthy", 2);
    const down = await server.report("down");
    assert.deepEqual([down.served, down.reason], [true, "the server ended (SIGKILL)"]);
    assert.deepEqual(server.types(), ["starting", "healthy", "down", "starting", "healthy"]);
  });

  test("may die in mid-run more often than it may fail to start", async () => {
    await using directory = await temporaryDirectory();
    await using server = supervise(directory.path, `exec ${node}`, { start_attempts: 1 });
    for (let life = 1; life <= 3; life++) {
      await server.report("healthy", life);
      for (const pid of await server.pids()) sendSignal(pid, "SIGKILL");
    }
    await server.report("healthy", 4);
  });

  test("gets no requests while it is ill, and is started again when that lasts", async () => {
    await using directory = await temporaryDirectory();
    const health = join(directory.path, "health");
    await using server = supervise(directory.path, `exec ${node}`, { health_interval_s: 20 });
    await server.report("healthy");
    await change(health, "500");
    const { reason } = await server.report("unhealthy");
    assert.equal(reason, "/health answers 500");
    await change(health, "200");
    const again = await server.report("healthy", 2);
    assert.equal(again.start_attempt, 1);
    await change(health, "500");
    const down = await server.report("down");
    assert.deepEqual(
      [down.served, down.reason],
      [true, "no good answer for 60 s: /health answers 500"],
    );
    await change(health, "200");
    assert.equal((await server.report("healthy", 3)).start_attempt, 2);
  });
});

describe("the port of a server", () => {
  test("is another one when a stranger listens on the first, which counts as no attempt", async () => {
    await using directory = await temporaryDirectory();
    // It answers as if all were well.
    const stranger = createServer((_request, response) => response.end());
    await new Promise<void>((resolve) => stranger.listen(0, "127.0.0.1", resolve));
    const { port: taken } = stranger.address() as AddressInfo;
    const avoided: number[][] = [];
    await using server = supervise(
      directory.path,
      `exec ${node}`,
      { start_attempts: 1 },
      {
        choosePort: async (avoid) => {
          avoided.push([...(avoid ?? [])]);
          return avoided.length === 1 ? taken : await choosePort(avoid);
        },
      },
    );
    const { port, start_attempt } = await server.report("healthy");
    stranger.close();
    assert.notEqual(port, taken);
    assert.equal(start_attempt, 1);
    assert.deepEqual(avoided, [[], [taken]]);
  });

  test("is another one also when the server has ended because of it before anybody looked", async () => {
    await using directory = await temporaryDirectory();
    const stranger = createServer();
    const chosen: number[] = [];
    const hasty = hastyClock();
    // Nobody looks at the first server before its end.
    const sleep: Clock["sleep"] = async (ms, signal) => {
      if (chosen.length === 1 && signal !== undefined) await once(signal, "abort");
      await hasty.sleep(ms, signal);
    };
    await using server = supervise(
      directory.path,
      // It ends at once, but for the second time.
      `test -e again || { touch again; until test -e taken; do sleep 0.01; done; exit 1; }; exec ${node}`,
      { start_attempts: 1 },
      {
        choosePort: async (avoid) => {
          chosen.push(await choosePort(avoid));
          return chosen.at(-1) as number;
        },
        clock: { ...hasty, sleep },
      },
    );
    await server.report("starting");
    await new Promise<void>((resolve) => stranger.listen(chosen[0], "127.0.0.1", resolve));
    await writeFile(join(directory.path, "taken"), "");
    await server.report("healthy");
    stranger.close();
    assert.equal(chosen.length, 2);
  });

  test("that is always a stranger's is a failed start in the end", async () => {
    await using directory = await temporaryDirectory();
    const stranger = createServer();
    await new Promise<void>((resolve) => stranger.listen(0, "127.0.0.1", resolve));
    const { port } = stranger.address() as AddressInfo;
    await using server = supervise(
      directory.path,
      "sleep 100",
      { start_attempts: 1 },
      { choosePort: async () => port },
    );
    assert.equal((await server.report("failed")).reason, "other programs took its ports");
    stranger.close();
    assert.deepEqual(await server.pids(), []);
  });

  test("may be held by a process that left the server's group", async () => {
    await using directory = await temporaryDirectory();
    await using server = supervise(directory.path, `setsid ${node} & wait`);
    await server.report("healthy");
    await server.stop();
    assert.deepEqual(await server.pids(), []);
  });

  test("of a server that goes into the background and leaves is nobody's: it ended", async () => {
    await using directory = await temporaryDirectory();
    const given = { start_attempts: 1 };
    await using server = supervise(directory.path, `setsid --fork ${node}`, given);
    assert.equal((await server.report("failed")).reason, "the server ended (exit code 0)");
    assert.deepEqual(await server.pids(), []);
  });
});

describe("the model of a server", () => {
  test("that calls itself otherwise is a warning when the socket is its own", async () => {
    await using directory = await temporaryDirectory();
    await writeFile(join(directory.path, "models"), "two,three");
    await using server = supervise(directory.path, `exec ${node}`);
    const { warning } = await server.report("healthy");
    assert.equal(
      warning,
      'requests ask for model "/models/one" (eval.model_args.model), /v1/models names "two", "three"',
    );
  });

  test("is another server's when it has another name and nobody knows whose socket it is", () => {
    assert.equal(isOtherModel("one", ["two"]), true);
    assert.equal(isOtherModel("one", []), true);
    assert.equal(isOtherModel("one", ["two", "one"]), false);
    assert.equal(isOtherModel("one", undefined), false);
    assert.equal(isOtherModel(null, ["two"]), false);
  });
});

describe("what a server is good for", () => {
  /** Scores as the file \`worth\` says: "nothing" is no log-probability, "silence" no answer. Counts what it is asked. */
  const scoring = `
const { createServer } = require("node:http");
const { appendFileSync, readFileSync } = require("node:fs");
createServer((request, response) => {
  if (request.method === "GET") return response.end(request.url === "/health" ? "" : "[]");
  let body = "";
  request.on("data", (chunk) => { body += chunk; });
  request.on("end", () => {
    if ("KEY" in process.env && request.headers.authorization !== "Bearer " + process.env.KEY) {
      response.statusCode = 401;
      return response.end();
    }
    appendFileSync("asked", process.pid + "\\n");
    const worth = readFileSync("worth", "utf8");
    if (worth === "death") process.exit(9);
    const n = JSON.parse(body).prompt[0].length + 1;
    const logprobs = { token_logprobs: Array(n).fill(-1), top_logprobs: Array(n).fill({ a: -1 }) };
    response.end(JSON.stringify({ choices: [worth === "nothing" ? {} : { logprobs }] }));
  });
}).listen(process.env.EH_PORT, "127.0.0.1");
`;
  const ask = {
    path: "/v1/completions",
    kind: "completions",
    echo: "tokens",
    headers: null,
  } as const;
  const command = `exec "${process.execPath}" -e '${scoring}'`;
  const askedPids = async (path: string) =>
    (await readFile(join(path, "asked"), "utf8")).trim().split("\n");

  test("is found out before it is healthy, of each process anew", async () => {
    await using directory = await temporaryDirectory();
    await change(join(directory.path, "worth"), "much");
    await using server = supervise(directory.path, command, { ask });
    const { echo } = await server.report("healthy");
    assert.ok(echo?.every((logprob) => logprob === -1));
    const [first] = await askedPids(directory.path);
    sendSignal(Number(first), "SIGKILL");
    await server.report("healthy", 2);
    const pids = await askedPids(directory.path);
    assert.deepEqual([pids.length, new Set(pids).size], [6, 2]);
    assert.deepEqual(server.types(), ["starting", "healthy", "down", "starting", "healthy"]);
  });

  test("is asked with the key that only the node knows", async () => {
    await using directory = await temporaryDirectory();
    await change(join(directory.path, "worth"), "much");
    const headers = { authorization: "Bearer ${KEY}" };
    await using server = supervise(directory.path, command, {
      env_vars: { KEY: "key of server $EH_SERVER_ID" },
      ask: { ...ask, headers },
    });
    await server.report("healthy");
    assert.deepEqual(server.types(), ["starting", "healthy"]);
  });

  test("is why it is given up at once when that is not enough", async () => {
    await using directory = await temporaryDirectory();
    await change(join(directory.path, "worth"), "nothing");
    await using server = supervise(directory.path, command, { ask });
    const { unfit, reason } = await server.report("failed");
    assert.equal(unfit, true);
    assert.match(reason, /^log-likelihoods can't be had from it/);
    assert.deepEqual(server.types(), ["starting", "failed"]);
    assert.deepEqual(await server.pids(), []);
  });

  test("is nothing when it dies of the question: a failed start", async () => {
    await using directory = await temporaryDirectory();
    await change(join(directory.path, "worth"), "death");
    await using server = supervise(directory.path, command, { ask, start_attempts: 2 });
    const { unfit, reason } = await server.report("failed");
    assert.deepEqual([unfit, reason], [undefined, "the server ended (exit code 9)"]);
    assert.deepEqual(server.types(), ["starting", "down", "starting", "failed"]);
  });
});

describe("the end of a server", () => {
  test("is an interrupt, a second one at once, a TERM after 10 s and a KILL after 15 s", async () => {
    await using directory = await temporaryDirectory();
    const hear = ["INT", "TERM"].map((name) => `trap 'echo ${name} >> heard' ${name}`).join("; ");
    const server = supervise(
      directory.path,
      `${hear}; echo up > up; while :; do read -r -t 0.02 < <(:); done`,
    );
    await until(async () => await readFile(join(directory.path, "up"), "utf8").catch(() => false));
    const from = server.clock.slept.length;
    await server.stop();
    const waited = server.clock.slept.slice(from).reduce((sum, ms) => sum + ms, 0);
    // A second interrupt that comes before the first is heeded is none to the system.
    assert.match(await readFile(join(directory.path, "heard"), "utf8"), /^(INT\n){1,2}TERM\n$/);
    assert.ok(waited >= 15_000 && waited < 16_000, String(waited));
    assert.deepEqual(await server.pids(), []);
    assert.deepEqual(server.types(), ["starting", "stopped"]);
  });

  test("takes no longer than the server needs, and all that it has started with it", async () => {
    await using directory = await temporaryDirectory();
    const server = supervise(directory.path, `setsid --fork sleep 1000; exec ${node}`);
    await server.report("healthy");
    const pids = await server.pids();
    assert.equal(pids.length, 2);
    const from = server.clock.slept.length;
    await server.stop();
    const waited = server.clock.slept.slice(from).reduce((sum, ms) => sum + ms, 0);
    assert.ok(waited < 10_000, String(waited));
    const starts = await Promise.all(pids.map((pid) => processStartTime(pid)));
    assert.deepEqual(
      starts.filter((start) => start !== undefined),
      [],
    );
    assert.equal(server.types().at(-1), "stopped");
  });

  test("comes also during the pause between two starts, and while variables are expanded", async () => {
    await using directory = await temporaryDirectory();
    const clock = { ...hastyClock(), sleep: systemClock.sleep };
    const pausing = supervise(directory.path, "exit 1", { start_attempts: 1_000 }, { clock });
    await pausing.report("down");
    await pausing.stop();
    assert.equal(pausing.types().at(-1), "stopped");

    const expanding = supervise(directory.path, node, {
      env_vars: { A: "$(touch at; sleep 100)" },
    });
    await until(async () => await readFile(join(directory.path, "at")).catch(() => false));
    await expanding.stop();
    assert.deepEqual(expanding.types(), ["stopped"]);
    for (const pid of await expanding.pids()) sendSignal(pid, "SIGKILL");
  });
});
