import { createInterface } from "node:readline";
import type { Readable, Writable } from "node:stream";
import { NodeOrder, type NodeReport, type ServerSpec } from "./node-protocol.ts";
import { superviseServer } from "./server-supervisor.ts";

interface Supervised {
  readonly key: string;
  readonly stop: AbortController;
  readonly ended: Promise<void>;
}

/** The node agent as a process: supervises the servers that it is told to, until its stdin ends or the signal aborts. */
export async function runNodeAgent(options: {
  readonly stdin: Readable;
  readonly stdout: Writable;
  readonly env: NodeJS.ProcessEnv;
  readonly signal: AbortSignal;
}): Promise<void> {
  const { stdin, stdout, env, signal } = options;
  const report = (message: NodeReport): void => {
    stdout.write(`${JSON.stringify(message)}\n`);
  };
  const running = new Map<number, Supervised>();

  /** A server takes the number of another one only when nothing of that is left. */
  function start(spec: ServerSpec): void {
    const before = running.get(spec.server);
    if (before?.key === spec.key && !before.stop.signal.aborted) return;
    before?.stop.abort();
    const stop = new AbortController();
    const ended = (before?.ended ?? Promise.resolve()).then(() =>
      superviseServer(spec, { env, report, signal: stop.signal }),
    );
    const supervised = { key: spec.key, stop, ended };
    running.set(spec.server, supervised);
    // One that was given up is tried anew when it is asked for again.
    void ended.then(() => {
      if (running.get(spec.server) === supervised) running.delete(spec.server);
    });
  }

  const lines = createInterface({ input: stdin });
  signal.addEventListener("abort", () => lines.close(), { once: true });
  if (signal.aborted) lines.close();
  // The lead agent may be gone already: what it was to read does not matter then.
  stdout.on("error", () => {});
  try {
    for await (const line of lines) {
      const order = NodeOrder.parse(JSON.parse(line));
      if (order.type === "ping") {
        report({ type: "pong", n: order.n });
        continue;
      }
      const wanted = new Set(order.servers.map(({ server }) => server));
      for (const [server, { stop }] of running) if (!wanted.has(server)) stop.abort();
      for (const spec of order.servers) start(spec);
    }
  } finally {
    // An open pipe would keep the process.
    stdin.destroy();
    for (const { stop } of running.values()) stop.abort();
    await Promise.all([...running.values()].map(({ ended }) => ended));
  }
}
