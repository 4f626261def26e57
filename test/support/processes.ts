import { readFile } from "node:fs/promises";
import { processesWithEnvironment } from "../../src/base/proc.ts";

/** What a process of a run is; `other`: a helper of one of them. */
export type ProcessRole =
  | "command"
  | "agent"
  | "node agent"
  | "balancer"
  | "harness parent"
  | "harness child"
  | "server"
  | "other";

export interface RunProcess {
  readonly pid: number;
  readonly role: ProcessRole;
}

interface Seen {
  readonly pid: number;
  readonly parent: number;
  readonly words: readonly string[];
  readonly environment: string;
}

/** All processes of a small run, by its mark: those whose environment has EH_TEST_RUN=mark. */
export async function processesOfRun(mark: string): Promise<RunProcess[]> {
  const seen: Seen[] = [];
  for (const pid of await processesWithEnvironment("EH_TEST_RUN", mark)) {
    try {
      const words = (await readFile(`/proc/${pid}/cmdline`, "utf8")).split("\0");
      const environment = await readFile(`/proc/${pid}/environ`, "latin1");
      const stat = await readFile(`/proc/${pid}/stat`, "utf8");
      const parent = Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]);
      seen.push({ pid, parent, words, environment });
    } catch {
      // It has just ended.
    }
  }
  return seen.map((one) => ({ pid: one.pid, role: roleOf(one, seen) }));
}

function roleOf({ parent, words, environment }: Seen, others: readonly Seen[]): ProcessRole {
  if (environment.includes("\0EH_SERVER_LIFE=")) return "server";
  if (isHarness(words)) {
    // A child is a fork: it looks like its parent.
    const isChild = others.some(({ pid, words: theirs }) => pid === parent && isHarness(theirs));
    return isChild ? "harness child" : "harness parent";
  }
  const agent = words.findIndex((word) => word.endsWith("/agent.mjs"));
  if (agent >= 0) {
    const roles: Record<string, ProcessRole> = {
      lead: "agent",
      node: "node agent",
      balancer: "balancer",
    };
    return roles[words[agent + 1] ?? ""] ?? "other";
  }
  const isCommand = words.some((word) => /(^|\/)(eval-hive(\.mjs)?|cli\/main\.ts)$/.test(word));
  return isCommand ? "command" : "other";
}

function isHarness(words: readonly string[]): boolean {
  return words.some((word) => word.endsWith("eval_hive_harness/__main__.py"));
}
