import type { Clock } from "../base/clock.ts";
import type { Reply } from "./reply.ts";

/** From one question to the next: the second finds out what the first has brought about. */
const pausesMs = [50, 200, 1_000] as const;
const laterMs = 5_000;

/**
 * Finds out whether a client of HTTP/1.1 that has shut its side of the connection is still there for the answer. Interim
 * answers, which every such client skips, are harmless to one that only said that it has nothing more to send; the kernel of
 * one that has closed its socket resets the connection, which ends the reply.
 */
export async function askWhetherThere(reply: Reply, clock: Clock): Promise<void> {
  for (let n = 0; reply.isWaiting; n++) {
    reply.sayContinue();
    await clock.sleep(pausesMs[n] ?? laterMs);
  }
}
