import assert from "node:assert/strict";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { after, test } from "node:test";
import { completionsEvaluation, evalTasks, ofType } from "../support/evaluations.ts";
import { describeOnBench, endsOf, openStation } from "../support/harness-bench.ts";

/** What torchrun and srun give to the processes of a job; lm_eval would take itself for one of many. */
const ranks = {
  RANK: "1",
  LOCAL_RANK: "1",
  WORLD_SIZE: "4",
  LOCAL_WORLD_SIZE: "4",
  NODE_RANK: "1",
};

/** Stands for the Hub: counts who asks. */
const hub = { asked: 0, endpoint: "", server: createServer() };
hub.server.on("request", (_request, response) => {
  hub.asked += 1;
  response.writeHead(404).end();
});
await once(hub.server.listen(0, "127.0.0.1"), "listening");
hub.endpoint = `http://127.0.0.1:${(hub.server.address() as AddressInfo).port}`;
after(() => hub.server.close());

type Seen = Readonly<Record<string, string | undefined>>;

describeOnBench(
  "the environment of an evaluation",
  { env: { ...ranks, EV_OF_ALL: "1", HF_ENDPOINT: hub.endpoint } },
  (bench) => {
    /** What a task finds in its environment, and where it is. */
    async function lookAround(env: Record<string, string> = {}): Promise<Seen> {
      const station = openStation(await bench.directory());
      const answer = await bench.run(["ev_environment"], { env: { ...station.env, ...env } });
      assert.deepEqual(endsOf(answer), [["ev_environment", "leaf_done"]]);
      return await station.said<Seen>("environment");
    }

    test("is the harness's and the request's together, without any rank", async () => {
      const seen = await lookAround({ ...ranks, EV_OF_ONE: "2" });
      assert.deepEqual([seen["EV_OF_ALL"], seen["EV_OF_ONE"]], ["1", "2"]);
      for (const name of Object.keys(ranks)) assert.equal(seen[name], undefined, name);
    });

    test("of one batch does not reach the next, nor the harness itself", async () => {
      assert.equal((await lookAround({ EH_OF_ONE: "1" }))["EH_OF_ONE"], "1");
      assert.equal((await lookAround())["EH_OF_ONE"], undefined);
      const evaluation = completionsEvaluation({ model_args: { model: "${EH_OF_ONE}" } });
      const { messages } = await bench.run(["ev_environment"], { evaluation });
      assert.match(ofType(messages, "error")[0]?.message ?? "", /EH_OF_ONE is not set/);
      const own = await readFile(`/proc/${bench.harness.hello.pid}/environ`, "utf8");
      assert.doesNotMatch(own, /EH_/);
    });

    test("keeps metrics from starting a pool, unless somebody wants one", async () => {
      assert.equal((await lookAround())["DISABLE_MULTIPROC"], "1");
      assert.equal((await lookAround({ DISABLE_MULTIPROC: "" }))["DISABLE_MULTIPROC"], "");
    });

    test("lets the Hub's proxy alone, and this machine without one", async () => {
      const seen = await lookAround({ https_proxy: "http://proxy:3128", no_proxy: "elsewhere" });
      assert.equal(seen["https_proxy"], "http://proxy:3128");
      for (const name of ["no_proxy", "NO_PROXY"]) {
        assert.deepEqual(seen[name]?.split(",").slice(-3), ["127.0.0.1", "localhost", "::1"]);
      }
      assert.match(seen["no_proxy"] ?? "", /^elsewhere,/);
    });

    test("that says offline keeps all from the Hub", async () => {
      const answer = await bench.run(["ev_missing_data"]);
      assert.equal(ofType(answer.messages, "leaf_failed")[0]?.class, "data-offline");
      assert.equal(hub.asked, 0);
    });

    test("has the working directory that the request names", async () => {
      assert.equal((await lookAround())["cwd"], evalTasks);
      // Local data files are looked for from there, and belong to the fingerprint.
      const { messages } = await bench.run(["ev_mc"], { cwd: await bench.directory() });
      assert.equal(ofType(messages, "leaf_failed")[0]?.class, "task-changed");
    });
  },
);
