import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, test } from "node:test";
import { type Call, evalHive, type RunningCommand, startEvalHive } from "../support/eval-hive.ts";
import { temporaryDirectory } from "../support/temporary.ts";
import { until } from "../support/until.ts";
import { answer, startUpstream, type Upstream } from "../support/upstream.ts";

async function place(): Promise<{ readonly path: string; readonly call: Call } & AsyncDisposable> {
  const directory = await temporaryDirectory();
  const env = { PATH: process.env["PATH"], EVAL_HIVE_NODE: process.execPath };
  return {
    path: directory.path,
    call: { cwd: directory.path, env },
    [Symbol.asyncDispose]: () => directory[Symbol.asyncDispose](),
  };
}

/** Waits until it listens. */
async function urlOf(command: RunningCommand): Promise<string> {
  const address = await until(() => /listens on (\S+)\n/.exec(command.stderr())?.[1], {
    what: "the balancer listens",
  });
  return `http://${address}`;
}

async function post(url: string, headers: Record<string, string> = {}): Promise<Response> {
  return await fetch(`${url}/v1/completions`, { method: "POST", body: "{}", headers });
}

function backends(...upstreams: readonly Upstream[]): string[] {
  return ["--backend", ...upstreams.map(({ url }) => url)];
}

describe("eval-hive balancer", () => {
  test("serves alone, tells how it is, and on a signal finishes what is in progress", async () => {
    let reply: (() => void) | undefined;
    await using first = await startUpstream(({ response }) => answer(response, 200));
    await using second = await startUpstream(({ response }, n) => {
      // What comes between the signal and its being heeded is answered like anything before.
      if (n < 3 || reply !== undefined) answer(response, 200);
      else reply = () => answer(response, 200, { late: true });
    });
    await using at = await place();
    await using command = await startEvalHive(
      ["balancer", "--listen", "127.0.0.1:0", ...backends(first, second), "--json"],
      at.call,
    );
    const url = await urlOf(command);
    for (let n = 0; n < 4; n++) assert.equal((await post(url)).status, 200);
    assert.deepEqual([first.asked.length, second.asked.length], [2, 2]);

    const health = await (await fetch(`${url}/lb/health`)).json();
    assert.deepEqual(health, { status: "ok", servers: 2, waiting: 0 });
    const status = (await (await fetch(`${url}/lb/status`)).json()) as Record<string, unknown>;
    assert.deepEqual([status["answered"], status["prompt_tokens"]], [4, 28]);
    const metrics = await (await fetch(`${url}/metrics`)).text();
    assert.match(metrics, /^lb_requests_total\{end="answered"\} 4$/m);

    await first[Symbol.asyncDispose]();
    const late = post(url);
    await until(() => reply !== undefined);
    command.signal("SIGTERM");
    // It takes nothing new, but has not forgotten whom it owes an answer.
    await until(() =>
      post(url).then(
        () => false,
        () => true,
      ),
    );
    reply?.();
    assert.deepEqual(await (await late).json(), { late: true });
    assert.equal((await command.ended).code, 143);
    const totals = JSON.parse(command.stdout());
    assert.ok(totals.answered >= 5, command.stdout());
    assert.deepEqual([totals.schema_version, totals.refused], [1, 0]);
  });

  test("lets nobody in without the token of its file", async () => {
    await using upstream = await startUpstream();
    await using at = await place();
    const token = "0123456789abcdef";
    await writeFile(join(at.path, "secret"), `${token}\n`);
    await using command = await startEvalHive(
      ["balancer", "--listen", "0.0.0.0:0", "--token-file", "secret", ...backends(upstream)],
      at.call,
    );
    const url = await urlOf(command);
    assert.equal((await post(url)).status, 403);
    assert.equal((await fetch(`${url}/lb/status`)).status, 403);
    assert.equal((await post(url, { authorization: `Bearer ${token}` })).status, 200);
    assert.equal(upstream.asked.length, 1);
    assert.equal(upstream.asked[0]?.request.headers.authorization, undefined);
    command.signal("SIGINT");
    assert.equal((await command.ended).code, 130);
    assert.equal(command.stdout(), "Requests: 1 answered, 0 refused; 0 retries\n");
    assert.ok(!command.stderr().includes(token));
  });

  const server = ["--backend", "http://127.0.0.1:9"];
  const listen = ["--listen", "127.0.0.1:0"];
  const mistakes: readonly [args: readonly string[], code: number, error: string][] = [
    [[...listen], 2, "usage"],
    [[...server], 2, "usage"],
    [["--listen", "somewhere", ...server], 2, "balancer.address"],
    [["--listen", "127.0.0.1:70000", ...server], 2, "balancer.address"],
    [["--listen", "0.0.0.0:0", ...server], 2, "balancer.token"],
    [[...listen, ...server, "--token-file", "nowhere"], 2, "balancer.token"],
    [[...listen, ...server, "--token-file", "short"], 2, "balancer.token"],
    [[...listen, "--backend", "127.0.0.1:9"], 2, "balancer.backend"],
    [[...listen, "--backend", "http://127.0.0.1:9/v1"], 2, "balancer.backend"],
    [[...listen, ...server, "--max-inflight", "0"], 2, "balancer.limit"],
    [[...listen, ...server, "--timeout", "soon"], 2, "balancer.timeout"],
    [[...listen, ...server, "--affinity", "colour"], 2, "usage"],
    [["--listen", "192.0.2.1:8000", "--token-file", "long", ...server], 3, "balancer.listen"],
  ];
  for (const [args, code, error] of mistakes) {
    test(`refuses ${args.join(" ")}: ${error}`, async () => {
      await using at = await place();
      await writeFile(join(at.path, "short"), "secret\n");
      await writeFile(join(at.path, "long"), "0123456789abcdef\n");
      const json = await evalHive(["balancer", ...args, "--json"], at.call);
      const said = JSON.parse(json.stdout);
      assert.deepEqual([json.code, said.error.code], [code, error], json.stderr);
    });
  }
});
