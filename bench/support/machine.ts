import { availableParallelism, cpus, totalmem } from "node:os";

/** Where figures were measured. Names no host. */
export interface Machine {
  readonly cpu: string;
  readonly cores: number;
  readonly memory_gib: number;
  readonly node: string;
}

export function describeMachine(): Machine {
  return {
    cpu: cpus()[0]?.model.trim() ?? "unknown",
    cores: availableParallelism(),
    memory_gib: Math.round(totalmem() / 2 ** 30),
    node: process.version,
  };
}

/** The machine in a file name: figures of two machines lie side by side. */
export function machineSlug({ cpu, cores }: Machine): string {
  return `${cpu}-${cores}`.toLowerCase().replace(/[^a-z0-9]+/g, "-");
}
