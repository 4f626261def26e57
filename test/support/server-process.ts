import { once } from "node:events";
import { createServer } from "node:net";
import { join } from "node:path";
import { type ChildGroup, startGroup } from "../../src/base/spawn.ts";
import type { Behaviour } from "./faulty-server.ts";
import { root } from "./require.ts";

/** faulty-server.ts as a process, at one port for all its lives. */
export interface ServerProcess extends AsyncDisposable {
  readonly url: string;
  readonly isRunning: boolean;
  behave(behaviour: Behaviour): Promise<void>;
  signal(signal: NodeJS.Signals): void;
  /** With SIGKILL, and waits for its end. */
  kill(): Promise<void>;
  /** Starts it if it does not run, and waits until it listens. */
  start(): Promise<void>;
}

export async function startServerProcess(): Promise<ServerProcess> {
  const port = await freePort();
  const url = `http://127.0.0.1:${port}`;
  let child: ChildGroup | undefined;
  const server: ServerProcess = {
    url,
    get isRunning() {
      return child !== undefined;
    },
    behave: async (behaviour) => {
      const body = JSON.stringify(behaviour);
      const response = await fetch(`${url}/behave`, { method: "POST", body });
      await response.text();
    },
    signal: (signal) => void child?.signal(signal),
    kill: async () => {
      child?.signal("SIGKILL");
      await child?.exited;
      child = undefined;
    },
    start: async () => {
      if (child !== undefined) return;
      const started = await startGroup(
        process.execPath,
        [join(root, "test/support/faulty-server.ts"), String(port)],
        { env: process.env, stdout: "pipe", stderr: 2 },
      );
      child = started;
      void started.exited.then(() => {
        if (child === started) child = undefined;
      });
      // Its end instead of a word is an error that whoever asks it will see.
      await Promise.race([once(started.stdout as NodeJS.EventEmitter, "data"), started.exited]);
    },
    [Symbol.asyncDispose]: () => server.kill(),
  };
  await server.start();
  return server;
}

/** All at once: most of their time is Node's start. */
export async function startServerProcesses(
  count: number,
): Promise<readonly ServerProcess[] & AsyncDisposable> {
  const servers = await Promise.all(Array.from({ length: count }, startServerProcess));
  return Object.assign(servers, {
    [Symbol.asyncDispose]: async () => {
      await Promise.all(servers.map((server) => server[Symbol.asyncDispose]()));
    },
  });
}

async function freePort(): Promise<number> {
  const server = createServer();
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  if (address === null || typeof address === "string") throw new TypeError("no port");
  return address.port;
}
