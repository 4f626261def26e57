import { hostname } from "node:os";
import * as z from "zod";
import { bootId, pidNamespace, processStartTime } from "../base/proc.ts";

/** Who an owner is, and where: what tells a dead one from a silent one. */
export const OwnerIdentity = z.strictObject({
  owner: z.string(),
  host: z.string(),
  boot_id: z.string(),
  pid_namespace: z.string(),
  pid: z.int().positive(),
  /** Clock ticks since boot: tells a later process with the same pid. */
  start_time: z.string(),
  /** Slurm's job id and restart count, where there is a job. */
  job: z.string().optional(),
  restart: z.int().nonnegative().optional(),
});
export type OwnerIdentity = z.output<typeof OwnerIdentity>;

const Body = z.strictObject({
  schema_version: z.literal(1),
  ...OwnerIdentity.shape,
  /** ended: its owner said good-bye. */
  state: z.enum(["live", "ended"]),
});

export interface OwnerRecord extends OwnerIdentity {
  readonly state: "live" | "ended";
  /** Counts the beats. */
  readonly beat: number;
}

/** This process under the name of `owner`. */
export async function identifyThisProcess(
  owner: string,
  job: { readonly job?: string; readonly restart?: number } = {},
): Promise<OwnerIdentity> {
  return {
    owner,
    host: hostname(),
    boot_id: await bootId(),
    pid_namespace: await pidNamespace(),
    pid: process.pid,
    start_time: (await processStartTime(process.pid)) ?? "",
    ...job,
  };
}

/** Every record has this size, so that rewriting one in place needs no new block. */
export const recordBytes = 1024;
const digits = 12;

/** The beat at both ends: a reader that sees a half-written record sees two numbers. Only the last record says `ended`. */
export function renderOwnerRecord({ beat, ...rest }: OwnerRecord): Buffer {
  const body: z.input<typeof Body> = { schema_version: 1, ...rest };
  const number = String(beat).padStart(digits, "0");
  const room = recordBytes - 2 * digits - 3;
  const text = Buffer.from(JSON.stringify(body));
  if (text.length > room) throw new RangeError(`Owner record of ${text.length} bytes`);
  const padding = " ".repeat(room - text.length);
  return Buffer.from(`${number} ${text.toString()}${padding} ${number}\n`);
}

/**
 * Reads a record. A half-written one still tells who it is: only its ends change from beat to beat, so the lower beat and
 * `live` are taken. @returns undefined when it is no record.
 */
export function parseOwnerRecord(text: string): OwnerRecord | undefined {
  const match = /^(\d{12}) (\{.*\}) +(\d{12})\n$/.exec(text);
  if (match === null) return undefined;
  const [first, last] = [Number(match[1]), Number(match[3])];
  try {
    const { schema_version: _, state, ...identity } = Body.parse(JSON.parse(match[2] ?? ""));
    return {
      ...(identity as OwnerIdentity),
      state: first === last ? state : "live",
      beat: Math.min(first, last),
    };
  } catch {
    return undefined;
  }
}

/**
 * How much this process can know of another one. `here`: the same process table. `rebooted`: the machine has started again
 * since. A host that is called localhost may be any machine.
 */
export function relationTo(
  there: OwnerIdentity,
  here: OwnerIdentity,
): "here" | "rebooted" | "elsewhere" {
  if (there.host !== here.host || /^localhost(\.|$)/.test(there.host)) return "elsewhere";
  if (there.boot_id !== here.boot_id) return "rebooted";
  return there.pid_namespace === here.pid_namespace ? "here" : "elsewhere";
}
