import { createHash } from "node:crypto";
import type { Server } from "./server.ts";

const keyBytes = 2048;
/** A prompt that begins later is not found. */
const headBytes = 4096;
/** `echo` is the last key of lm_eval's requests for log-probabilities, and of many other clients'. */
const tailBytes = 256;

/**
 * What requests with the same beginning of their prompt have in common; undefined where it does not matter: engines do not
 * use their prefix cache for prompts whose log-probabilities are asked for (`echo`), and without a prompt there is none.
 * The JSON is not parsed: a prompt that is found late, or in another key, costs an even choice of the server, nothing else.
 */
export function promptKeyOf(chunks: readonly Buffer[]): string | undefined {
  const last = chunks.at(-1);
  if (last === undefined) return undefined;
  if (/"echo"\s*:\s*true/.test(last.toString("latin1", Math.max(0, last.length - tailBytes)))) {
    return undefined;
  }
  const head = headOf(chunks);
  const from = /"(?:prompt|messages|text)"/.exec(head)?.index;
  if (from === undefined) return undefined;
  const beginning = head.slice(from, from + keyBytes);
  return createHash("sha1").update(beginning, "latin1").digest("base64");
}

function headOf(chunks: readonly Buffer[]): string {
  let head = "";
  for (const chunk of chunks) {
    if (head.length >= headBytes) break;
    head += chunk.toString("latin1", 0, headBytes - head.length);
  }
  return head;
}

const maxKeys = 50_000;

/** Which servers have seen which prompts, the latest ones. */
export class Prompts {
  /** The one that was asked for longest ago first. */
  readonly #seen = new Map<string, Set<Server>>();

  seenBy(key: string): ReadonlySet<Server> | undefined {
    return this.#seen.get(key);
  }

  remember(key: string, server: Server): void {
    const servers = this.#seen.get(key) ?? new Set();
    servers.add(server);
    this.#seen.delete(key);
    this.#seen.set(key, servers);
    if (this.#seen.size <= maxKeys) return;
    const [oldest] = this.#seen.keys();
    if (oldest !== undefined) this.#seen.delete(oldest);
  }

  /** A server that has gone has taken its cache along. */
  forget(server: Server): void {
    for (const servers of this.#seen.values()) servers.delete(server);
  }
}
