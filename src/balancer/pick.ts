import type { Standing } from "./health.ts";

/** What the choice of a server looks at. */
export interface Candidate {
  readonly standing: Standing;
  readonly inFlight: number;
  /** A server of weight 2 gets twice the requests of one of weight 1. */
  readonly weight: number;
  readonly maxInFlight: number;
  /** Requests in flight there that may have killed another server. */
  readonly suspects: number;
  /** It has just failed a request, and is being asked whether it lives. */
  readonly doubted: boolean;
}

/** What a request asks of its server. */
export interface Wish<C> {
  /** Servers that have failed it: others are better. */
  readonly tried: ReadonlySet<C>;
  /** It may have killed a server: only one such request at a time per server, so that a second death has one culprit. */
  readonly suspect: boolean;
  /** Servers that have seen its prompt. */
  readonly seenBy?: ReadonlySet<C> | undefined;
}

/**
 * The server for a request: of the best class that there is, the one with the least requests in flight for its weight; ties
 * take turns. A server that has seen the prompt goes first as long as it has hardly more in flight than the least loaded one.
 * @param turn counts up from call to call
 * @returns undefined when the request has to wait: for a server of that class to have room, or for any to come
 */
export function pick<C extends Candidate>(
  servers: readonly C[],
  wish: Wish<C>,
  turn: number,
): C | undefined {
  let best: C | undefined;
  let bestClass = Number.POSITIVE_INFINITY;
  let bestLoad = Number.POSITIVE_INFINITY;
  for (let n = 0; n < servers.length; n++) {
    const server = servers[(n + turn) % servers.length] as C;
    const itsClass = classOf(server, wish);
    if (itsClass > bestClass || itsClass === never) continue;
    if (itsClass < bestClass) {
      bestClass = itsClass;
      best = undefined;
      bestLoad = Number.POSITIVE_INFINITY;
    }
    const load = server.inFlight / server.weight;
    if (hasRoom(server, wish) && load < bestLoad) [best, bestLoad] = [server, load];
  }
  if (best === undefined || wish.seenBy === undefined) return best;
  return pickSeen(servers, wish, { bestClass, bestLoad }) ?? best;
}

const never = Number.POSITIVE_INFINITY;

/** Lower is better. */
function classOf<C extends Candidate>(server: C, { tried }: Wish<C>): number {
  const isTried = tried.has(server);
  switch (server.standing) {
    case "ready":
      if (server.doubted) return isTried ? 3 : 1;
      return isTried ? 2 : 0;
    case "trial":
      // One request finds out; to the others it is still out.
      if (server.inFlight > 0) return isTried ? 5 : 4;
      return isTried ? 2 : 0;
    case "busy":
      return isTried ? 3 : 1;
    case "out":
      return isTried ? 5 : 4;
    case "down":
      return never;
  }
}

function hasRoom<C extends Candidate>(server: C, { suspect }: Wish<C>): boolean {
  if (suspect && (server.suspects > 0 || server.doubted)) return false;
  return server.inFlight < server.maxInFlight;
}

function pickSeen<C extends Candidate>(
  servers: readonly C[],
  wish: Wish<C>,
  { bestClass, bestLoad }: { readonly bestClass: number; readonly bestLoad: number },
): C | undefined {
  const most = bestLoad + Math.max(2, bestLoad / 4);
  let seen: C | undefined;
  for (const server of wish.seenBy ?? []) {
    if (!servers.includes(server) || classOf(server, wish) !== bestClass) continue;
    const load = server.inFlight / server.weight;
    if (!hasRoom(server, wish) || load > most) continue;
    if (seen === undefined || load < seen.inFlight / seen.weight) seen = server;
  }
  return seen;
}
