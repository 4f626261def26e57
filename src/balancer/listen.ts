import type { AddressInfo, Server } from "node:net";
import { errnoName } from "../base/errors.ts";

/** Listens on the first of these ports that is free; 0: any. @returns the port. @throws when none of them is free. */
export async function listen(
  server: Server,
  host: string,
  ports: readonly number[],
): Promise<number> {
  let lastError: unknown = new RangeError("No port to listen on");
  for (const port of ports) {
    try {
      await new Promise<void>((resolve, reject) => {
        server.once("error", reject);
        server.listen(port, host, () => {
          server.off("error", reject);
          resolve();
        });
      });
      return (server.address() as AddressInfo).port;
    } catch (error) {
      if (errnoName(error) !== "EADDRINUSE") throw error;
      lastError = error;
    }
  }
  throw lastError;
}

/** True for addresses that only this machine reaches. */
export function isLoopback(host: string): boolean {
  return host === "localhost" || host === "::1" || /^127(\.\d{1,3}){3}$/.test(host);
}
