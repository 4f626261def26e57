import type { ServerResponse } from "node:http";
import type { Clock } from "../base/clock.ts";

/** From one question to the next: the second finds out what the first has brought about. */
const pausesMs = [50, 200, 1_000] as const;
const laterMs = 5_000;

/**
 * Finds out whether a client that has shut its side of the connection is still there for the answer. Interim answers, which
 * every client of HTTP/1.1 skips, are harmless to one that only said that it has nothing more to send; the kernel of one that
 * has closed its socket resets the connection, which ends the response.
 */
export async function askWhetherThere(response: ServerResponse, clock: Clock): Promise<void> {
  if (response.req.httpVersionMinor === 0) {
    // It does not know interim answers.
    response.destroy();
    return;
  }
  for (let n = 0; !response.headersSent && !response.destroyed; n++) {
    response.writeContinue();
    await clock.sleep(pausesMs[n] ?? laterMs);
  }
}
