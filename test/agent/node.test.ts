import assert from "node:assert/strict";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { test } from "node:test";
import { type NodeOrder, NodeReport, type ServerSpec } from "../../src/agent/node-protocol.ts";
import { processesWithEnvironment } from "../../src/base/proc.ts";
import { type ChildGroup, startGroup } from "../../src/base/spawn.ts";
import { root } from "../support/require.ts";
import { temporaryDirectory } from "../support/temporary.ts";
import { until } from "../support/until.ts";

const program = `
require("node:http").createServer((_request, response) => response.end("{}")).listen(process.env.EH_PORT, "127.0.0.1");
`;

/** A server that runs by itself; the name tells its process from others. */
function serverNamed(name: string): string {
  return `exec "${process.execPath}" -e '${program}' -- ${name}`;
}

interface NodeAgent extends AsyncDisposable {
  readonly process: ChildGroup;
  readonly reports: NodeReport[];
  order(order: NodeOrder): void;
  /** Types and keys of the reports, in order. */
  told(): string[];
  /** Pids of all that it has started. */
  pids(): Promise<number[]>;
}

let marks = 0;

async function startNodeAgent(): Promise<NodeAgent> {
  const mark = `node-agent-${process.pid}-${++marks}`;
  const agent = await startGroup(process.execPath, [join(root, "src/agent/main.ts"), "node"], {
    env: { PATH: process.env["PATH"], TEST_MARK: mark },
    stdin: "pipe",
    stdout: "pipe",
    stderr: "ignore",
  });
  const reports: NodeReport[] = [];
  assert(agent.stdout !== undefined);
  const lines = createInterface({ input: agent.stdout });
  lines.on("line", (line) => reports.push(NodeReport.parse(JSON.parse(line))));
  return {
    process: agent,
    reports,
    order: (order) => void agent.stdin?.write(`${JSON.stringify(order)}\n`),
    told: () =>
      reports.flatMap((report) => (report.type === "pong" ? [] : `${report.type} ${report.key}`)),
    pids: async () => {
      const pids = await processesWithEnvironment("TEST_MARK", mark);
      return pids.filter((pid) => pid !== agent.pid);
    },
    [Symbol.asyncDispose]: async () => {
      await agent.stop({ graceMs: 30_000 });
    },
  };
}

function spec(directory: string, key: string, given: Partial<ServerSpec> = {}): ServerSpec {
  return {
    server: 0,
    key,
    command: serverNamed(key),
    env: {},
    env_vars: {},
    cwd: directory,
    log_prefix: join(directory, key),
    host: "127.0.0.1",
    max_wait_s: 60,
    health_interval_s: 1,
    share: { index: 0, of: 1 },
    start_attempts: 2,
    model: null,
    ...given,
  };
}

const ends: Record<string, (agent: ChildGroup) => void> = {
  "the end of its stdin": ({ stdin }) => void stdin?.end(),
  SIGTERM: (agent) => void agent.signal("SIGTERM"),
  "a line that is no order": ({ stdin }) => void stdin?.write("what?\n"),
};
for (const [what, end] of Object.entries(ends)) {
  test(`ends with its servers on ${what}`, async () => {
    await using directory = await temporaryDirectory();
    await using agent = await startNodeAgent();
    const servers = ["a", "b"].map((key, server) => spec(directory.path, key, { server }));
    agent.order({ type: "servers", servers });
    await until(() => agent.told().filter((line) => line.startsWith("healthy")).length === 2);
    assert.equal((await agent.pids()).length, 2);
    end(agent.process);
    const { code } = await agent.process.exited;
    assert.equal(code, what.startsWith("a line") ? 1 : 0);
    assert.deepEqual(await agent.pids(), []);
    assert.deepEqual(agent.told().slice(-2).sort(), ["stopped a", "stopped b"]);
  });
}

test("answers pings, also before any order and while a server starts", async () => {
  await using directory = await temporaryDirectory();
  await using agent = await startNodeAgent();
  const pongs = () => agent.reports.flatMap((report) => (report.type === "pong" ? report.n : []));
  agent.order({ type: "ping", n: 1 });
  await until(() => pongs().includes(1));
  const never = spec(directory.path, "never", { command: "sleep 1000" });
  agent.order({ type: "servers", servers: [never] });
  await until(() => agent.told().includes("starting never"));
  agent.order({ type: "ping", n: 2 });
  await until(() => pongs().includes(2));
});

test("keeps a server that is ordered again, and replaces one by another only when it is gone", async () => {
  await using directory = await temporaryDirectory();
  await using agent = await startNodeAgent();
  const a = spec(directory.path, "a");
  agent.order({ type: "servers", servers: [a] });
  await until(() => agent.told().includes("healthy a"));
  const [first] = await agent.pids();
  agent.order({ type: "servers", servers: [a] });
  agent.order({ type: "ping", n: 1 });
  await until(() => agent.reports.at(-1)?.type === "pong");
  assert.deepEqual(await agent.pids(), [first]);

  agent.order({ type: "servers", servers: [spec(directory.path, "b")] });
  await until(() => agent.told().includes("healthy b"));
  assert.deepEqual(agent.told(), [
    "starting a",
    "healthy a",
    "stopped a",
    "starting b",
    "healthy b",
  ]);
  assert.equal((await agent.pids()).length, 1);

  agent.order({ type: "servers", servers: [] });
  await until(() => agent.told().at(-1) === "stopped b");
  assert.deepEqual(await agent.pids(), []);
});

test("goes through replacements that come faster than servers end", async () => {
  await using directory = await temporaryDirectory();
  await using agent = await startNodeAgent();
  for (const key of ["a", "b", "a", "c"]) {
    agent.order({ type: "servers", servers: [spec(directory.path, key)] });
  }
  await until(() => agent.told().at(-1) === "healthy c");
  assert.equal((await agent.pids()).length, 1);
});

test("starts a server that it has given up when it is asked for it again", async () => {
  await using directory = await temporaryDirectory();
  await using agent = await startNodeAgent();
  const broken = spec(directory.path, "broken", { command: "exit 5", start_attempts: 1 });
  agent.order({ type: "servers", servers: [broken] });
  await until(() => agent.told().at(-1) === "failed broken");
  agent.order({ type: "servers", servers: [broken] });
  await until(() => agent.told().filter((line) => line === "failed broken").length === 2);
});
