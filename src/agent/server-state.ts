import type { ServerSpec } from "./node-protocol.ts";

/** Why a unit's servers will not serve it any more. */
export interface ServersFailed {
  /**
   * `server-start`: never healthy. `server-unfit`: it can't do what the unit needs. `server-crash-loop`: it dies again and
   * again without answering a request.
   */
  readonly class: "server-start" | "server-unfit" | "server-crash-loop";
  readonly reason: string;
  readonly logTail: readonly string[];
}

/** What is known of a server of the unit at hand. */
export interface ServerState {
  readonly spec: ServerSpec;
  url: string | undefined;
  /** Of servers that give equal answers. */
  identity: string;
  /** Requests that it had answered when it became healthy: what the balancer says of them comes a moment later. */
  answeredBefore: Promise<number>;
  barrenLives: number;
  wasHealthy: boolean;
  /** What the process at hand has answered to the probe; undefined: it has not been asked, or died. */
  echo: readonly number[] | undefined;
  /** The findings about the process at hand are recorded. */
  isTold: boolean;
  /** Why nobody tries it any more. */
  givenUp: ServersFailed | undefined;
}

export function newState(spec: ServerSpec): ServerState {
  const answeredBefore = Promise.resolve(0);
  return {
    spec,
    url: undefined,
    identity: "",
    answeredBefore,
    barrenLives: 0,
    wasHealthy: false,
    echo: undefined,
    isTold: false,
    givenUp: undefined,
  };
}
