import { randomBytes } from "node:crypto";
import type { OwnerId } from "../run/ids.ts";

/** A name for one life of one agent: `{job}-p{pid}-{8 hex}`, at most 60 characters of [a-z0-9-]. */
export function newOwnerId(job: string, pid: number): OwnerId {
  const place = job
    .toLowerCase()
    .replace(/[^a-z0-9-]/g, "-")
    .slice(0, 40);
  return `${place}-p${pid}-${randomBytes(4).toString("hex")}` as OwnerId;
}
