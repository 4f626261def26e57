/** wrk, the load generator: POSTs of one size over so many connections, one request after the other on each. */
import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { runToEnd } from "../../src/base/spawn.ts";

export interface Load {
  readonly requests_per_s: number;
  readonly requests: number;
  readonly p50_ms: number;
  readonly p99_ms: number;
  /** Answers other than 2xx, and requests without any. */
  readonly errors: number;
}

/** A script that lets wrk send such requests. */
export async function writeRequest(file: string, bodyBytes: number): Promise<void> {
  const before = '{"prompt": "';
  const after = '", "echo": true}';
  const text = bodyBytes - before.length - after.length;
  await writeFile(
    file,
    `wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = '${before}' .. string.rep("x", ${text}) .. '${after}'
`,
  );
}

export async function runWrk(
  url: string,
  options: { readonly script: string; readonly connections: number; readonly seconds: number },
  prefix: readonly string[],
): Promise<Load> {
  const { script, connections, seconds } = options;
  const [file = "wrk", ...args] = [
    ...prefix,
    "wrk",
    "-t1",
    `-c${connections}`,
    `-d${seconds}s`,
    "--timeout",
    "30s",
    "--latency",
    "-s",
    script,
    url,
  ];
  const { code, stdout, stderr } = await runToEnd(file, args, { env: process.env });
  assert.equal(code, 0, stderr);
  return readReport(stdout);
}

const unitMs: Readonly<Record<string, number>> = { us: 0.001, ms: 1, s: 1_000, m: 60_000 };

function readReport(report: string): Load {
  const latency = (percent: string): number => {
    const [, value, unit = ""] =
      new RegExp(`^ +${percent}% +([\\d.]+)(us|ms|s|m) *$`, "m").exec(report) ?? [];
    return Number(value) * (unitMs[unit] ?? Number.NaN);
  };
  const [, requests] = /^ +(\d+) requests in /m.exec(report) ?? [];
  const [, perSecond] = /^Requests\/sec: +([\d.]+)$/m.exec(report) ?? [];
  const [, refused = "0"] = /^ +Non-2xx or 3xx responses: (\d+)$/m.exec(report) ?? [];
  const [, ...failed] =
    /^ +Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)$/m.exec(report) ?? [];
  return {
    requests_per_s: Number(perSecond),
    requests: Number(requests),
    p50_ms: latency("50"),
    p99_ms: latency("99"),
    errors: [refused, ...failed].reduce((sum, count) => sum + Number(count), 0),
  };
}
