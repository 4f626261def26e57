import { connect, type Socket } from "node:net";
import { until } from "./until.ts";

/** A connection on which a test says every byte itself. */
export interface RawConnection extends Disposable {
  readonly socket: Socket;
  /** All that has come, as latin1. */
  readonly received: string;
  readonly isClosed: boolean;
  say(text: string): void;
  /** Shuts our side. */
  end(): void;
  /** Waits for what has come to match. */
  hear(pattern: RegExp): Promise<string>;
  /** Waits for the other side to close, and gives all that has come. */
  hearAll(): Promise<string>;
}

export async function openRaw(url: string): Promise<RawConnection> {
  const { hostname, port } = new URL(url);
  const socket = connect({ host: hostname, port: Number(port), allowHalfOpen: true });
  let received = "";
  let isClosed = false;
  socket.on("data", (chunk) => {
    received += chunk.toString("latin1");
  });
  socket.on("error", () => {});
  socket.on("end", () => {
    isClosed = true;
  });
  socket.on("close", () => {
    isClosed = true;
  });
  await new Promise<void>((resolve) => socket.once("connect", resolve));
  return {
    socket,
    get received() {
      return received;
    },
    get isClosed() {
      return isClosed;
    },
    say: (text) => void socket.write(text, "latin1"),
    end: () => void socket.end(),
    hear: async (pattern) => {
      await until(() => pattern.test(received), {
        what: `${pattern} in "${received.slice(-200)}"`,
      });
      return received;
    },
    hearAll: async () => {
      await until(() => isClosed);
      return received;
    },
    [Symbol.dispose]: () => socket.destroy(),
  };
}
