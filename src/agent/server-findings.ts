import type { EventBody } from "../events/event.ts";
import { differenceOf } from "./echo.ts";
import type { NodeReport } from "./node-protocol.ts";

/** Servers of one model give one answer: what rounding makes of it stays far below. */
const disagreeingNats = 0.5;

/** A server that runs, with its answer to the probe. */
export interface EchoedServer {
  readonly server: number;
  readonly echo: readonly number[];
}

/** What is odd about a server that has just become healthy, in itself and beside others of its unit. Pure. */
export function findingsOf(
  report: Extract<NodeReport, { type: "healthy" }>,
  others: readonly EchoedServer[],
): EventBody<"server.warning">[] {
  const { server, warning, echo, unsteady } = report;
  const findings: EventBody<"server.warning">[] = [];
  const about = { server, other: null, difference: null };
  if (warning !== undefined) findings.push({ ...about, kind: "model-name", message: warning });
  if (unsteady !== undefined) {
    const message = `what server ${server} answers depends on what it was asked before: ${nats(unsteady)} between two answers to one prompt; its log-likelihoods can't be relied on`;
    findings.push({ ...about, kind: "unsteady", message, difference: unsteady });
  }
  for (const { server: other, echo: theirs } of echo === undefined ? [] : others) {
    const difference = differenceOf(echo ?? [], theirs);
    if (difference !== null && difference <= disagreeingNats) continue;
    const message = `servers ${other} and ${server} disagree: ${nats(difference)} for the same prompt; do they serve the same model, in the same precision?`;
    findings.push({ server, other, kind: "disagreement", message, difference });
  }
  return findings;
}

function nats(difference: number | null): string {
  return difference === null
    ? "another number of tokens"
    : `${difference.toFixed(2)} nat per token`;
}
