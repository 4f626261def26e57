import { readFile } from "node:fs/promises";
import { Agent, request as httpRequest } from "node:http";
import { join } from "node:path";
import {
  type BalancerOptions,
  type RunningBalancer,
  startBalancer,
} from "../../src/balancer/balancer.ts";
import { Blocks } from "../../src/balancer/blocks.ts";
import type { Backend } from "../../src/balancer/control.ts";
import type { statusData } from "../../src/balancer/status.ts";
import { openLog } from "../../src/base/log.ts";
import { temporaryDirectory } from "./temporary.ts";

/** A balancer inside the test, before the given servers. */
export interface TestBalancer extends AsyncDisposable {
  readonly balancer: RunningBalancer;
  /** Of the balancer; a path follows. */
  readonly url: string;
  /** Makes these the servers, named 0, 1 …; requests wait for them without end. */
  route(
    servers: readonly (string | { readonly url: string } | Backend)[],
    prospects?: { readonly missing?: number },
  ): void;
  status(): Promise<ReturnType<typeof statusData>>;
  /** All that it has logged. */
  log(): Promise<string>;
}

export const token = "a-token-of-the-test";

export async function balance(
  servers: Parameters<TestBalancer["route"]>[0],
  options: Partial<BalancerOptions> = {},
): Promise<TestBalancer> {
  const directory = await temporaryDirectory();
  const logFile = join(directory.path, "log");
  const balancer = await startBalancer({
    host: "127.0.0.1",
    ports: [0],
    token: undefined,
    attemptTimeoutMs: 60_000,
    log: openLog(logFile),
    // Whoever still reads a body whose memory was given back finds it spoilt.
    blocks: new Blocks((block) => block.fill(0xdd)),
    ...options,
    // No time-out is shortened here: on a busy machine a healthy server is slow, too.
    limits: { checkEveryMs: 200, recheckEveryMs: 100, verdictMs: 1_000, ...options.limits },
  });
  const url = `http://127.0.0.1:${balancer.port}`;
  const test: TestBalancer = {
    balancer,
    url,
    route: (all, { missing } = {}) => {
      const backends = all.map((one, n) => {
        if (typeof one === "string") return { id: String(n), url: one };
        return "id" in one ? one : { id: String(n), url: one.url };
      });
      balancer.setServers(backends, { waitMs: Number.POSITIVE_INFINITY, missing });
    },
    status: async () => {
      const headers = { authorization: `Bearer ${options.token}` };
      const response = await fetch(`${url}/lb/status`, { headers });
      return (await response.json()) as ReturnType<typeof statusData>;
    },
    log: async () => await readFile(logFile, "utf8").catch(() => ""),
    [Symbol.asyncDispose]: async () => {
      await balancer[Symbol.asyncDispose]();
      await directory[Symbol.asyncDispose]();
    },
  };
  test.route(servers);
  return test;
}

export interface Answer {
  readonly status: number;
  readonly fields: NodeJS.Dict<string | string[]>;
  readonly body: string;
}

/** A client with connections of its own, which it uses again as lm_eval's does. Failing to get an answer rejects. */
export interface Client extends Disposable {
  post(path: string, body: string, options?: { signal?: AbortSignal }): Promise<Answer>;
}

export function openClient(origin: string): Client {
  const agent = new Agent({ keepAlive: true });
  return {
    post: async (path, body, { signal } = {}) =>
      await new Promise<Answer>((resolve, reject) => {
        const headers = {
          "content-type": "application/json",
          "content-length": Buffer.byteLength(body),
        };
        const asking = httpRequest(`${origin}${path}`, {
          method: "POST",
          agent,
          headers,
          ...(signal !== undefined && { signal }),
        });
        asking.on("error", reject);
        asking.on("response", (response) => {
          const chunks: Buffer[] = [];
          response.on("data", (chunk: Buffer) => chunks.push(chunk));
          response.on("error", reject);
          response.on("end", () => {
            if (!response.complete) reject(new Error("The answer was cut"));
            const { statusCode: status = 0, headers: fields } = response;
            resolve({ status, fields, body: Buffer.concat(chunks).toString() });
          });
        });
        asking.end(body);
      }),
    [Symbol.dispose]: () => agent.destroy(),
  };
}
