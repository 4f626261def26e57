import { nodeFlags } from "../balancer/node-flags.ts";
import type { Clock } from "../base/clock.ts";
import { messageOf } from "../base/errors.ts";
import type { Logger } from "../base/log.ts";
import type { EventSink } from "../events/event.ts";
import type { OwnerId } from "../run/ids.ts";
import type { RunLayout } from "../run/layout.ts";
import type { Plan } from "../run/plan.ts";
import { type BalancerClient, type ChildPlace, openBalancer } from "./balancer-client.ts";
import { childEnvironment, harnessEnvironment } from "./environment.ts";
import { openServers, type Servers } from "./servers.ts";
import type { Shutdown } from "./shutdown.ts";
import { openWarmHarness, type WarmHarness } from "./warm-harness.ts";

/** Where and as what a lead agent runs. */
export interface JobContext {
  readonly layout: RunLayout;
  readonly owner: OwnerId;
  /** `local`, or Slurm's job id. */
  readonly job: string;
  readonly isLocal: boolean;
  /** Host name. */
  readonly node: string;
  /** The program that is also node agent and balancer. */
  readonly agentFile: string;
  readonly nodeFile: string;
  readonly env: NodeJS.ProcessEnv;
  readonly log: Logger;
  readonly clock: Clock;
}

/** The address of a job's servers, and what keeps them. */
export interface Serving {
  readonly balancer: BalancerClient;
  readonly servers: Servers;
}

/** The processes of a job that outlive its units. Each starts when it is first asked for and is replaced when it dies. */
export interface JobProcesses extends AsyncDisposable {
  /** For units that need a server. */
  serving(): Promise<Serving>;
  /** Before a model is loaded in the harness: servers of earlier units are stopped. */
  withoutServers(): Promise<void>;
  /** The harness with the environment of this profile; another one is closed first. */
  harnessFor(plan: Plan, profile: string): Promise<WarmHarness>;
  /** An id for a run request and its account, that no other has had in this job. */
  newRunId(): string;
}

export function openProcesses(
  context: JobContext,
  events: EventSink,
  shutdown: Shutdown,
): JobProcesses {
  const { owner, job, agentFile, nodeFile, clock, log } = context;
  const env = childEnvironment(context.env, owner);
  const subject = { job };
  const note = (published: Promise<void>): void => {
    published.catch((error: unknown) => log.warn({ error: messageOf(error) }, "an event is lost"));
  };
  const place: ChildPlace = {
    file: nodeFile,
    env,
    cwd: context.layout.directory,
    logFd: 2,
    log,
    onGivenUp: (error) => shutdown.fail(error),
    clock,
  };

  async function openServing(): Promise<Serving> {
    const balancer = await openBalancer(place, [...nodeFlags, agentFile, "balancer"], {
      onListening: (pid, port) => note(events.publish("balancer.started", subject, { pid, port })),
      onEnd: (pid, how) => note(events.publish("balancer.ended", subject, { pid, how })),
    });
    const agentArgs = [agentFile, "node"];
    return { balancer, servers: openServers({ place, agentArgs, balancer, events, job, clock }) };
  }

  function openHarness(from: Plan, harnessEnv: NodeJS.ProcessEnv): WarmHarness {
    const [file, ...prefix] = from.harness.argv;
    if (file === undefined) throw new TypeError("The plan names no Python");
    return openWarmHarness({
      ...place,
      file,
      args: [...prefix, `${from.harness.store}/harness/eval_hive_harness/__main__.py`],
      env: harnessEnv,
      cwd: from.working_directory,
      versions: from.harness.versions,
      onHello: ({ pid, versions }, start_s) =>
        note(
          events.publish("harness.started", subject, { pid, start_s, lm_eval: versions.lm_eval }),
        ),
      onEnd: (pid, how, cpu_s) =>
        note(
          events.publish("harness.ended", subject, {
            pid,
            how,
            ...(cpu_s !== undefined && { cpu_s }),
          }),
        ),
    });
  }

  let serving: Promise<Serving> | undefined;
  let harness: { readonly key: string; readonly open: WarmHarness } | undefined;
  let runs = 0;
  return {
    serving: async () => {
      serving ??= openServing();
      return await serving;
    },
    withoutServers: async () => {
      await (await serving)?.servers.stop(shutdown.aborting);
    },
    harnessFor: async (from, name) => {
      const profile = from.profiles[name];
      if (profile === undefined) throw new TypeError(`No profile "${name}" in the plan`);
      const harnessEnv = await harnessEnvironment(env, profile, {
        isLocal: context.isLocal,
        cwd: from.working_directory,
        signal: shutdown.aborting,
      });
      // One that has a model loaded must not keep it while servers start.
      const isServerless = profile.server_command === null;
      const key = JSON.stringify([from.harness, harnessEnv, isServerless]);
      if (harness?.key !== key) {
        await harness?.open[Symbol.asyncDispose]();
        harness = { key, open: openHarness(from, harnessEnv) };
      }
      return harness.open;
    },
    newRunId: () => `r${++runs}`,
    [Symbol.asyncDispose]: async () => {
      const opened = await serving?.catch(() => undefined);
      // At the same time: servers may take their time to end.
      await Promise.all([
        harness?.open[Symbol.asyncDispose](),
        opened?.servers[Symbol.asyncDispose](),
      ]);
      await opened?.balancer[Symbol.asyncDispose]();
    },
  };
}
