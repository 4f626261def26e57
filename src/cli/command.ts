/** What a command gets and gives. Commands never print: they return data, and main.ts prints it once. */
export interface CommandContext {
  readonly env: Readonly<NodeJS.ProcessEnv>;
  /** Absolute. */
  readonly cwd: string;
  /** Messages and progress; the answer goes to stdout through the result. */
  readonly stderr: NodeJS.WriteStream;
  /** Aborts on the first SIGINT or SIGTERM: end well. */
  readonly interrupted: AbortSignal;
  /** Aborts on the second SIGINT, or on SIGTERM: end now. */
  readonly aborted: AbortSignal;
  /** The answer is asked for as JSON: no live display either. */
  readonly json: boolean;
  /** Where the code runs from: `dist/` of a checkout or release, or `src/` in development. */
  readonly installation: Installation;
}

/** Files that the controller hands to jobs. All absolute. */
export interface Installation {
  /** The checkout's or release's root. */
  readonly root: string;
  readonly version: string;
  /** The one-file agent. */
  readonly agentFile: string;
  /** The folder that holds the Python package `eval_hive_harness`. */
  readonly harnessDirectory: string;
}

export interface CommandResult {
  readonly exitCode: number;
  /** What `--json` prints; holds `schema_version`. */
  readonly data: object;
  /** What a person reads, with its last line end. */
  readonly text: string;
}
