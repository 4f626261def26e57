import assert from "node:assert/strict";
import { appendFile, readFile, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { describe, test } from "node:test";
import type { BalancerClient } from "../../src/agent/balancer-client.ts";
import type { NodeReport, ServerSpec } from "../../src/agent/node-protocol.ts";
import type { ServersFailed } from "../../src/agent/server-state.ts";
import { openServers, type Servers } from "../../src/agent/servers.ts";
import { sumCounts } from "../../src/balancer/control.ts";
import { type Clock, systemClock } from "../../src/base/clock.ts";
import { runToEnd } from "../../src/base/spawn.ts";
import { checkEvent } from "../../src/events/encode.ts";
import type { EventBody } from "../../src/events/event.ts";
import { silentLog } from "../support/logs.ts";
import { ManualClock } from "../support/manual-clock.ts";
import { temporaryDirectory } from "../support/temporary.ts";
import { until } from "../support/until.ts";

const never = new AbortController().signal;

interface Scene extends AsyncDisposable {
  readonly servers: Servers;
  /** URLs that the balancer was told, each time all. */
  readonly routes: string[][];
  /** Of the last route: servers that may come back. */
  missing(): number | undefined;
  readonly failed: ServersFailed[];
  readonly told: string[];
  /** What was found odd: bodies of `server.warning`. */
  readonly odd: EventBody<"server.warning">[];
  readonly loads: EventBody<"server.load">[];
  /** The node agent says this. */
  report(report: NodeReport): Promise<void>;
  /** How many servers each order had that the node agent got. */
  orders(): Promise<number[]>;
  /** Requests that the balancer has answered, by server. */
  readonly answeredBy: Map<string, number>;
  /** Makes these the servers; by default there is one. */
  assign(...given: Partial<ServerSpec>[]): void;
}

/** Servers behind a node agent that says what the test writes, and a balancer that only remembers. */
async function openScene(clock: Clock = systemClock): Promise<Scene> {
  const directory = await temporaryDirectory();
  const said = join(directory.path, "said");
  const ordered = join(directory.path, "ordered");
  await runToEnd("mkfifo", [said], { env: process.env });
  await writeFile(ordered, "");
  const routes: string[][] = [];
  let missing: number | undefined;
  const failed: ServersFailed[] = [];
  const told: string[] = [];
  const odd: EventBody<"server.warning">[] = [];
  const loads: EventBody<"server.load">[] = [];
  const balancer = {
    route: (servers, prospects) => {
      routes.push(servers.map(({ url }) => url));
      missing = prospects.missing;
    },
    served: async () =>
      new Map([...scene.answeredBy].map(([id, answered]) => [id, { ...sumCounts([]), answered }])),
    engines: new Map(),
  } as Pick<BalancerClient, "route" | "served" | "engines"> as BalancerClient;
  const servers = openServers({
    place: {
      file: "bash",
      env: { PATH: process.env["PATH"] },
      cwd: directory.path,
      logFd: 2,
      log: silentLog,
      onGivenUp: (error) => told.push(`given up: ${error.message}`),
    },
    agentArgs: ["--norc", "-c", "exec 3<>said; cat <&3 & cat >> ordered; kill %1"],
    balancer,
    events: {
      publish: async (type, subject, body) => {
        checkEvent(type, subject, body);
        told.push(type);
        if (type === "server.load") loads.push(body as EventBody<"server.load">);
        if (type === "server.warning") odd.push(body as EventBody<"server.warning">);
      },
    },
    job: "local",
    clock,
  });
  const orders = async (): Promise<number[]> => {
    const lines = (await readFile(ordered, "utf8")).split("\n").slice(0, -1);
    return lines
      .map((line) => JSON.parse(line) as { type: string; servers: unknown[] })
      .filter(({ type }) => type === "servers")
      .map((order) => order.servers.length);
  };
  const scene: Scene = {
    servers,
    routes,
    missing: () => missing,
    failed,
    told,
    odd,
    loads,
    answeredBy: new Map(),
    orders,
    report: async (report) => await appendFile(said, `${JSON.stringify(report)}\n`),
    assign: (...given) => {
      const specs = (given.length === 0 ? [{}] : given).map((changes) => ({
        ...{ server: 0, key: "k", command: "serve", env: {}, env_vars: {}, cwd: "/" },
        ...{ log_prefix: "/log", host: "127.0.0.1", max_wait_s: 60, health_interval_s: 1 },
        ...{ start_attempts: 3, model: null, share: { index: 0, of: 1 }, ...changes },
      }));
      servers.assign("model--main", specs, 600, (why) => failed.push(why));
    },
    [Symbol.asyncDispose]: async () => {
      await servers[Symbol.asyncDispose]();
      await directory[Symbol.asyncDispose]();
    },
  };
  await until(async () => (await orders()).length > 0);
  return scene;
}

const about = { server: 0, key: "k" };
const starting: NodeReport = { type: "starting", ...about, start_attempt: 1, port: 1, log: "/log" };
const healthy = (url = "http://127.0.0.1:1"): NodeReport => {
  return { type: "healthy", ...about, start_attempt: 1, port: 1, url, start_s: 1, identity: "i" };
};
const down = (served: boolean): NodeReport => {
  return { type: "down", ...about, served, reason: "it ended", log_tail: ["last", "words"] };
};

describe("requests", () => {
  test("are routed to a server while it is healthy, and only then", async () => {
    await using at = await openScene();
    at.assign();
    await at.report(starting);
    await at.report(healthy());
    await until(() => at.routes.at(-1)?.length === 1);
    await at.report({ type: "unhealthy", ...about, reason: "503" });
    await until(() => at.routes.at(-1)?.length === 0);
    await at.report(healthy("http://127.0.0.1:2"));
    await until(() => at.routes.at(-1)?.[0] === "http://127.0.0.1:2");
    await at.report(down(true));
    await until(() => at.routes.at(-1)?.length === 0);
    assert.deepEqual(at.told, [
      ...["server.starting", "server.healthy", "server.unhealthy", "server.healthy"],
      "server.restarted",
    ]);
  });

  test("are told of, by server, when the unit has ended: what came for it", async () => {
    await using at = await openScene();
    at.answeredBy.set("0", 5);
    at.assign(about, { server: 1, key: "l" });
    at.answeredBy.set("0", 12);
    await at.servers.leave();
    assert.deepEqual(
      at.loads.map(({ server, served }) => [server, served.answered]),
      [[0, 7]],
    );
  });

  test("are told of once a minute as long as the unit is at work", async () => {
    const clock = new ManualClock();
    await using at = await openScene(clock);
    at.assign();
    at.answeredBy.set("0", 1);
    for (const minute of [1, 2]) {
      await until(() => clock.sleepers === 1);
      clock.advance(60_000);
      await until(() => at.loads.length === minute);
    }
    await at.servers.leave();
    assert.equal(at.loads.length, 3);
    await until(() => clock.sleepers === 1);
    clock.advance(60_000);
    await until(() => clock.sleepers === 1);
    assert.equal(at.loads.length, 3);
  });

  test("go nowhere when the node agent dies; its successor gets the order again", async () => {
    await using at = await openScene();
    at.assign();
    await at.report(healthy());
    await until(() => at.routes.at(-1)?.length === 1);
    const orders = (await at.orders()).length;
    for (const pid of await childrenOfThis()) process.kill(pid, "SIGKILL");
    await until(() => at.routes.at(-1)?.length === 0);
    await until(async () => (await at.orders()).length > orders);
    assert.deepEqual((await at.orders()).at(-1), 1);
  });
});

describe("the findings about a server", () => {
  const second = { server: 1, key: "l" };
  const scored = (by: { server: number; key: string }, logprob: number): NodeReport => {
    const url = `http://127.0.0.1:${by.server + 1}`;
    const body = { start_attempt: 1, port: 1, url, start_s: 1, identity: "i", echo: [logprob, -1] };
    return { type: "healthy", ...by, ...body };
  };

  test("are warnings with what was measured, once for each process", async () => {
    await using at = await openScene();
    at.assign();
    const found = { ...healthy(), warning: "it calls itself two", unsteady: 0.25 } as NodeReport;
    await at.report(found);
    await at.report({ type: "unhealthy", ...about, reason: "503" });
    await at.report(found);
    await at.report(down(true));
    await at.report(starting);
    await at.report({ ...found, unsteady: null } as NodeReport);
    await until(() => at.odd.length === 4);
    assert.deepEqual(
      at.odd.map(({ kind, difference }) => [kind, difference]),
      [
        ["model-name", null],
        ["unsteady", 0.25],
        ["model-name", null],
        ["unsteady", null],
      ],
    );
    assert.match(at.odd[1]?.message ?? "", /server 0 .* 0\.25 nat per token/);
    assert.match(at.odd[3]?.message ?? "", /another number of tokens/);
  });

  test("are that two servers of a unit disagree, by what they have answered as they run now", async () => {
    await using at = await openScene();
    at.assign(about, second);
    await at.report(scored(about, -1));
    await at.report(scored(second, -1.9));
    await at.report({ ...starting, ...second });
    await at.report(scored(second, -2.25));
    await at.report({ ...starting, ...about });
    await at.report(scored(about, -2.25));
    // What a process answered that is gone is no measure.
    await at.report({ ...starting, ...about });
    await at.report({ ...starting, ...second });
    await at.report(scored(second, -5));
    await until(() => at.told.length >= 9 + 1 && at.routes.at(-1)?.length === 1);
    assert.deepEqual(
      at.odd.map(({ kind, server, other, difference }) => [kind, server, other, difference]),
      [["disagreement", 1, 0, 0.625]],
    );
    assert.match(at.odd[0]?.message ?? "", /^servers 0 and 1 disagree: 0\.63 nat per token/);
  });
});

describe("servers that fail", () => {
  test("because they can't do what is needed are told from those that do not start", async () => {
    await using at = await openScene();
    at.assign();
    await at.report({ type: "failed", ...about, unfit: true, reason: "no echo", log_tail: [] });
    await until(() => at.failed.length > 0);
    assert.deepEqual(at.failed, [{ class: "server-unfit", reason: "no echo", logTail: [] }]);
    assert.deepEqual(at.routes.flat(), []);
  });

  test("are told once, when one was never healthy", async () => {
    await using at = await openScene();
    at.assign();
    await at.report(starting);
    await at.report({ type: "failed", ...about, reason: "no GPU", log_tail: ["x"] });
    await at.report({ type: "failed", ...about, reason: "no GPU", log_tail: ["x"] });
    await until(() => at.told.filter((type) => type === "server.failed").length === 2);
    assert.deepEqual(at.failed, [{ class: "server-start", reason: "no GPU", logTail: ["x"] }]);
  });

  test("are a crash loop when one dies three times without an answered request", async () => {
    await using at = await openScene();
    // By the servers of another unit.
    at.answeredBy.set("0", 5);
    at.assign();
    for (let life = 1; life <= 3; life++) {
      assert.deepEqual(at.failed, []);
      await at.report(healthy());
      await at.report(down(true));
      await until(() => at.told.filter((type) => type === "server.restarted").length === life);
    }
    await until(() => at.failed.length > 0);
    assert.deepEqual(at.failed, [
      {
        class: "server-crash-loop",
        reason: "it ended 3 times in a row without answering a request: it ended",
        logTail: ["last", "words"],
      },
    ]);
  });

  test("are none as long as each life is good for something", async () => {
    await using at = await openScene();
    at.assign();
    for (let life = 1; life <= 6; life++) {
      await at.report(healthy());
      await until(() => at.routes.at(-1)?.length === 1);
      if (life % 3 === 0) at.answeredBy.set("0", life);
      await at.report(down(true));
      await until(() => at.told.filter((type) => type === "server.restarted").length === life);
    }
    await at.report(healthy());
    await until(() => at.routes.at(-1)?.length === 1);
    assert.deepEqual(at.failed, []);
  });

  test("leave the others at work, and are the end of the unit when none is left", async () => {
    await using at = await openScene();
    const other = { server: 1, key: "other" };
    at.assign({}, other);
    await at.report(healthy());
    await at.report({ ...healthy("http://127.0.0.1:2"), ...other });
    await until(() => at.routes.at(-1)?.length === 2);
    assert.equal(at.missing(), 0);
    // What the others answer makes no life of this one a good one.
    for (let life = 1; life <= 3; life++) {
      at.answeredBy.set("1", life);
      await at.report(down(true));
      await until(() => at.told.filter((type) => type === "server.restarted").length === life);
      if (life === 1) assert.equal(at.missing(), 1);
      if (life < 3) await at.report(healthy());
    }
    await until(async () => (await at.orders()).at(-1) === 1);
    assert.deepEqual(at.routes.at(-1), ["http://127.0.0.1:2"]);
    // Nobody tries it any more, whatever it has still said of itself.
    const said = at.told.filter((type) => type === "server.healthy").length;
    await at.report(healthy());
    await until(() => at.told.filter((type) => type === "server.healthy").length > said);
    assert.deepEqual([at.routes.at(-1), at.missing()], [["http://127.0.0.1:2"], 0]);
    assert.deepEqual(at.failed, []);
    await at.report({ type: "failed", ...other, reason: "no GPU", log_tail: [] });
    await until(() => at.failed.length > 0);
    assert.deepEqual(at.failed, [{ class: "server-start", reason: "no GPU", logTail: [] }]);
  });

  test("are tried anew by the next unit that asks for them", async () => {
    await using at = await openScene();
    at.assign();
    await at.report({ type: "failed", ...about, reason: "no GPU", log_tail: [] });
    await until(() => at.failed.length > 0);
    at.assign();
    await until(async () => (await at.orders()).at(-1) === 1);
    await at.report(healthy());
    await until(() => at.routes.at(-1)?.length === 1);
  });

  test("are of no interest to a unit that has ended", async () => {
    await using at = await openScene();
    at.assign();
    await at.servers.leave();
    await at.report({ type: "failed", ...about, reason: "no GPU", log_tail: [] });
    await until(() => at.told.includes("server.failed"));
    assert.deepEqual(at.failed, []);
  });
});

describe("a disturbance", () => {
  test("is any time without a healthy server since then, and a server that is ill now", async () => {
    let status = 200;
    const server = createServer((_request, response) => response.writeHead(status).end());
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    const now = () => systemClock.monotonic();
    await using at = await openScene();
    at.assign();
    const beforeAll = now();
    assert.equal(await at.servers.disturbedSince(beforeAll), true);
    await at.report(starting);
    await at.report(healthy(url));
    await until(() => at.routes.at(-1)?.length === 1);
    // The first start is no disturbance: requests have waited for it.
    assert.equal(await at.servers.disturbedSince(beforeAll), false);

    const beforeFall = now();
    await at.report(down(true));
    await at.report(starting);
    await at.report(healthy(url));
    await until(() => at.told.at(-1) === "server.healthy" && at.told.includes("server.restarted"));
    const afterFall = now();
    assert.equal(await at.servers.disturbedSince(beforeFall), true);
    assert.equal(await at.servers.disturbedSince(afterFall), false);

    status = 500;
    assert.equal(await at.servers.disturbedSince(afterFall), true);
    server.closeAllConnections();
    server.close();
  });
});

describe("stopping", () => {
  test("waits until nothing is left", async () => {
    await using at = await openScene();
    at.assign();
    await at.report(healthy());
    await until(() => at.routes.at(-1)?.length === 1);
    let stopped = false;
    const stopping = at.servers.stop(never).then(() => {
      stopped = true;
    });
    await until(async () => (await at.orders()).at(-1) === 0);
    assert.equal(stopped, false);
    assert.deepEqual(at.routes.at(-1), []);
    await at.report({ type: "stopped", ...about });
    await stopping;
    await at.servers.stop(never);
  });

  test("does not wait when everything is ended", async () => {
    await using at = await openScene();
    at.assign();
    await at.servers.stop(AbortSignal.abort());
  });
});

/** Pids: the shells that play node agents. */
async function childrenOfThis(): Promise<number[]> {
  const children = await readFile(`/proc/self/task/${process.pid}/children`, "utf8");
  return children.trim().split(/\s+/).map(Number);
}
