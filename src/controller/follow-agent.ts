import { open } from "node:fs/promises";
import { join } from "node:path";
import { createInterface } from "node:readline";
import * as z from "zod";
import { describeExit, type Exit, startGroup } from "../base/spawn.ts";
import type { RunLayout } from "../run/layout.ts";
import type { Plan } from "../run/plan.ts";

/** The last word of an agent (src/agent/main.ts, `tell`). */
const LastWord = z.object({
  type: z.literal("ended"),
  reason: z.string(),
  exit_code: z.int(),
  message: z.string().optional(),
  code: z.string().optional(),
  hint: z.string().optional(),
});
type LastWord = z.output<typeof LastWord>;

/** How an agent ended: with a word, or without one. */
export interface AgentEnd {
  /** For messages. */
  readonly how: string;
  readonly said: LastWord | undefined;
}

export interface FollowOptions {
  readonly layout: RunLayout;
  readonly plan: Plan;
  /** Node. */
  readonly nodeFile: string;
  readonly env: NodeJS.ProcessEnv;
  /** Finish the leaf at hand, then end. */
  readonly draining: AbortSignal;
  /** End now. */
  readonly aborting: AbortSignal;
}

/** What the agent and its children write for people, of all agents that `run` has started here. */
export function agentLog(layout: RunLayout, plan: Plan): string {
  const name = plan.job_name.replace(/[^A-Za-z0-9._-]/g, "-");
  return join(
    layout.logs,
    `${[name, "agent", "local"].filter((part) => part !== "").join("-")}.log`,
  );
}

/** Starts a lead agent on this machine, passes on what this process is told, and waits for its end. */
export async function followAgent(options: FollowOptions): Promise<AgentEnd> {
  const { layout, plan } = options;
  const log = await open(agentLog(layout, plan), "a");
  try {
    await using agent = await startGroup(
      options.nodeFile,
      [join(plan.harness.store, "agent.mjs"), "lead", "--run", layout.directory, "--leash"],
      {
        env: options.env,
        stdin: "pipe",
        stdout: "pipe",
        stderr: log.fd,
        cwd: plan.working_directory,
      },
    );
    const { stdin, stdout } = agent;
    if (stdin === undefined || stdout === undefined) throw new TypeError("The agent has no pipes");
    const letGo = [
      passOn(options.draining, () => stdin.write("drain\n")),
      passOn(options.aborting, () => stdin.write("abort\n")),
    ];
    try {
      const said = await readLastWord(stdout);
      const exit: Exit = await agent.exited;
      return { how: describeExit(exit), said };
    } finally {
      for (const release of letGo) release();
    }
  } finally {
    await log.close();
  }
}

/** @returns the undoing. */
function passOn(signal: AbortSignal, tell: () => void): () => void {
  if (signal.aborted) tell();
  else signal.addEventListener("abort", tell, { once: true });
  return () => signal.removeEventListener("abort", tell);
}

async function readLastWord(stdout: NodeJS.ReadableStream): Promise<LastWord | undefined> {
  let said: LastWord | undefined;
  for await (const line of createInterface({ input: stdout })) said = parseLastWord(line) ?? said;
  return said;
}

/** undefined for anything else, such as a line that its death has cut. */
function parseLastWord(line: string): LastWord | undefined {
  try {
    return LastWord.safeParse(JSON.parse(line)).data;
  } catch {
    return undefined;
  }
}
