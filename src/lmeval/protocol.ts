/**
 * What the harness (harness/, Python) and we say to each other: one JSON object per line, requests on its stdin, messages
 * on its stdout. End of its stdin means: kill the children and exit. Spelled in snake_case on both sides. Numbers that are
 * not finite travel as the strings "NaN", "Infinity" and "-Infinity" and only where a field says so.
 */
import * as z from "zod";
import { FailureClass } from "./failure-class.ts";
import { Leaf, type LeafSource, SuiteNode } from "./task-tree.ts";

/** The evaluation arguments of one profile, as in the config: `${EH_MODEL_PATH}` and the like are not expanded. */
export interface Evaluation {
  /** `eval.model_args` with every value as YAML gave it. */
  readonly model_args: Readonly<Record<string, unknown>>;
  /** `eval.lm_eval_args`, likewise: names of `lm_eval run` flags without dashes; `model` is one of them. */
  readonly lm_eval_args: Readonly<Record<string, unknown>>;
}

/** Versions of everything that can change a score; null when it is not installed. */
export const HarnessVersions = z.strictObject({
  python: z.string(),
  lm_eval: z.string(),
  /** Over the paths and contents of lm_eval's own Python files. */
  lm_eval_sha256: z.string(),
  datasets: z.string().nullable(),
  transformers: z.string().nullable(),
  torch: z.string().nullable(),
});
export type HarnessVersions = z.output<typeof HarnessVersions>;

/** Asks for the task tree. Answered by `planned` or `error`. */
export interface PlanRequest {
  readonly type: "plan";
  readonly id: string;
  readonly suites: readonly string[];
  /** Searched first; lm_eval's built-in tasks only for names that are missing there. */
  readonly include_path: string | null;
  /** Where the index of lm_eval's files is kept between calls. */
  readonly cache_dir: string;
  /** By profile name. */
  readonly evaluations: Readonly<Record<string, Evaluation>>;
}

/** A leaf to evaluate: enough to load it without an index and to see that it is still the one that was planned. */
export interface RunLeaf {
  readonly id: string;
  readonly name: string;
  readonly source: z.output<typeof LeafSource>;
  readonly overrides: Readonly<Record<string, unknown>>;
  /** Computed again when the leaf is loaded: a difference fails the leaf with class `task-changed`. */
  readonly fingerprint: string;
}

/**
 * Evaluates leaves, one after another, in one forked child: a new one, or one that was quick with batches of the same
 * evaluation, in which all went well, and has seen no leaf of these names. Answered by `started` … `ended`.
 */
export interface RunRequest {
  readonly type: "run";
  /** Unique per request of this harness process. */
  readonly id: string;
  readonly leaves: readonly RunLeaf[];
  readonly evaluation: Evaluation;
  /** Added to the child's environment after the fork; fills `${NAME}` in the evaluation arguments too. */
  readonly env: Readonly<Record<string, string>>;
  /**
   * Where requests to a loopback base_url on EH_PORT go instead: the leaf's index in `leaves` and the path of the
   * original base_url are appended (`{prefix}/{index}/v1/completions`). null: base_url stays.
   */
  readonly base_url_prefix: string | null;
  /** `eval.timeout` is the balancer's; the model object gets these. */
  readonly request_timeout_s: number;
  readonly request_retries: number;
  /** A leaf that is loaded, or scored, for longer than this has failed, and its child is ended. */
  readonly phase_timeout_s: number;
  /**
   * `fast`: completions requests are encoded in batches and sent while others still are; the same requests with the same
   * bytes, in another order. `plain`: lm_eval's own code sends them.
   */
  readonly engine: "fast" | "plain";
  /** The unit's directory for leaf files; created if missing. */
  readonly output_dir: string;
  /** Part of the samples file's name and of temporary names. */
  readonly owner: string;
  /** Copied into the `eval_hive` block of each leaf file, beside `fingerprint`, `inputs` and `samples`. */
  readonly record: Readonly<Record<string, unknown>>;
  /** The child's stdout and stderr are appended here. */
  readonly log_file: string;
  /** The child's working directory. */
  readonly cwd: string;
  /**
   * A name keeps the child and its loaded model for the next request with the same name (serverless units); another
   * name ends it. null: the model is loaded so often as there are children.
   */
  readonly resident: string | null;
  /** Asks the model nothing before `go` is said: everything else is done until then. Not for one that is resident. */
  readonly held: boolean;
}

export type HarnessRequest =
  | PlanRequest
  | RunRequest
  /** To a run that is held. */
  | { readonly type: "go"; readonly id: string }
  /** Ends the child of a run at once (TERM, then KILL to its group); `ended` follows. */
  | { readonly type: "cancel"; readonly id: string }
  | { readonly type: "ping"; readonly n: number }
  | { readonly type: "shutdown" };

const failure = {
  class: FailureClass,
  permanent: z.boolean(),
  /** The decisive line: usually the last of the traceback. */
  message: z.string(),
  /** At most 20 lines. */
  trace_tail: z.array(z.string()),
};

const leafFields = { id: z.string(), leaf: z.string() };

/** What the harness says. `id` is that of the request. */
export const HarnessMessage = z.discriminatedUnion("type", [
  /** First of all, once everything is imported. */
  z.strictObject({ type: z.literal("hello"), pid: z.int(), versions: HarnessVersions }),
  z.strictObject({ type: z.literal("pong"), n: z.int() }),
  /** Last of all, unless it is killed. `cpu_s`: its own and that of all its children. */
  z.strictObject({ type: z.literal("goodbye"), cpu_s: z.number() }),
  z.strictObject({
    type: z.literal("planned"),
    id: z.string(),
    suites: z.array(SuiteNode),
    leaves: z.array(Leaf),
    /** By profile: the evaluation's part of the fingerprint, and leaf id → fingerprint. */
    evaluations: z.record(
      z.string(),
      z.strictObject({
        inputs: z.record(z.string(), z.unknown()),
        fingerprints: z.record(z.string(), z.string()),
      }),
    ),
    /** Suites and children that lm_eval does not know, each with near spellings. */
    unknown: z.array(z.strictObject({ name: z.string(), near: z.array(z.string()) })),
    warnings: z.array(z.string()),
  }),
  /** A request that could not be carried out at all. */
  z.strictObject({ type: z.literal("error"), id: z.string(), ...failure }),

  z.strictObject({ type: z.literal("started"), id: z.string(), pid: z.int() }),
  z.strictObject({ type: z.literal("leaf_started"), ...leafFields }),
  z.strictObject({
    type: z.literal("progress"),
    ...leafFields,
    /** `prepared`: its run is held. `requests` counts answered model requests. */
    phase: z.enum(["loading", "prepared", "requests", "scoring"]),
    done: z.int(),
    total: z.int(),
    /** The last answer is expected within two seconds, or is there. */
    nearly_done: z.boolean(),
  }),
  z.strictObject({
    type: z.literal("leaf_done"),
    ...leafFields,
    path: z.string(),
    /** `existing`: another evaluation's leaf file was there first and stands; ours was removed. */
    outcome: z.enum(["created", "existing"]),
    samples_path: z.string().nullable(),
    n_samples: z.int(),
    n_requests: z.int(),
    /** Seconds: until the first request (the model object, the task, its data), waiting for the model, all of it. */
    load_s: z.number(),
    requests_s: z.number(),
    total_s: z.number(),
  }),
  /** Evaluated, but its scores can't be trusted; `invalid_….json` says why. Not tried again. */
  z.strictObject({
    type: z.literal("leaf_invalid"),
    ...leafFields,
    path: z.string(),
    reason: z.string(),
  }),
  z.strictObject({ type: z.literal("leaf_failed"), ...leafFields, ...failure }),
  /** The last word on a run. `leaf`: the one in progress when the child died. */
  z.strictObject({
    type: z.literal("ended"),
    id: z.string(),
    exit_code: z.int().nullable(),
    /** SIGSTOP: it was stopped, nobody continued it for 30 s, and it was killed. */
    signal: z.string().nullable(),
    cancelled: z.boolean(),
    leaf: z.string().nullable(),
    cpu_s: z.number(),
    max_rss_bytes: z.int(),
  }),
]);
export type HarnessMessage = z.output<typeof HarnessMessage>;
export type Planned = Extract<HarnessMessage, { type: "planned" }>;
