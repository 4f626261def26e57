import { join } from "node:path";
import type { RunLayout } from "../run/layout.ts";
import type { WorkUnit } from "./unit.ts";

/** Where the logs of one job are: `{job name}-{task key}-{job}…` as the original names them. Appended to. */
export interface LogNames {
  readonly agent: (unit: WorkUnit) => string;
  readonly harness: (unit: WorkUnit) => string;
  /** `-attempt{k}.log` follows. */
  readonly server: (unit: WorkUnit, server: number) => string;
}

export function logNames(layout: RunLayout, jobName: string, job: string): LogNames {
  const safe = jobName.replace(/[^A-Za-z0-9._-]/g, "-");
  const stem = ({ planned }: WorkUnit) =>
    join(layout.logs, [safe, planned.id, job].filter((part) => part !== "").join("-"));
  return {
    agent: (unit) => `${stem(unit)}.log`,
    harness: (unit) => `${stem(unit)}-harness.log`,
    server: (unit, server) => `${stem(unit)}-server-${server}`,
  };
}
