import { readFile } from "node:fs/promises";
import { createServer } from "node:net";
import { EnvironmentError } from "../base/errors.ts";
import type { NodeShare } from "./node-share.ts";

/** Where we look for ports when the ephemeral range leaves room below it. */
const lowest = 10_000;
const highest = 65_535;

/** The ports that the system gives to outgoing connections (ip(7)), ends included. */
export async function ephemeralRange(): Promise<readonly [from: number, to: number]> {
  const text = await readFile("/proc/sys/net/ipv4/ip_local_port_range", "utf8").catch(
    () => "32768 60999",
  );
  const [from = 32_768, to = 60_999] = text.trim().split(/\s+/).map(Number);
  return [from, to];
}

/**
 * A port that nobody listens on now and that no outgoing connection takes by chance, so that whoever asked has time to
 * bind it. Chosen at random, since other jobs on this node choose as well.
 * @param share of all ports, so that those who start together do not choose the same one
 * @throws {EnvironmentError} when a hundred tries found none.
 */
export async function choosePort(
  avoid: ReadonlySet<number> = new Set(),
  share: NodeShare = { index: 0, of: 1 },
): Promise<number> {
  const [from, to] = await ephemeralRange();
  const below = Math.max(from - lowest, 0);
  const above = Math.max(highest - to, 0);
  for (let tries = 0; tries < 100; tries++) {
    const n = Math.floor(((share.index + Math.random()) / share.of) * (below + above));
    const port = n < below ? lowest + n : to + 1 + n - below;
    if (!avoid.has(port) && (await isFree(port))) return port;
  }
  throw new EnvironmentError("ports.none", "Cannot find a free port outside the ephemeral range", {
    hint: "See `ss -ltn` and /proc/sys/net/ipv4/ip_local_port_range.",
  });
}

/** True when no address of this node has a listener on the port. */
export async function isFree(port: number): Promise<boolean> {
  const results = [await tryListen(port, "::"), await tryListen(port, "0.0.0.0")];
  // A node without IPv6 has no "::".
  return results.includes("free") && !results.includes("taken");
}

async function tryListen(port: number, host: string): Promise<"free" | "taken" | "no-address"> {
  return await new Promise((resolve) => {
    const server = createServer();
    server.once("error", (error: NodeJS.ErrnoException) =>
      resolve(error.code === "EADDRINUSE" ? "taken" : "no-address"),
    );
    server.listen({ port, host, ipv6Only: host === "::", exclusive: true }, () =>
      server.close(() => resolve("free")),
    );
  });
}
