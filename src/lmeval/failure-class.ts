import * as z from "zod";

/**
 * Why a leaf failed. Permanent ones cannot go away by trying again.
 * - `task-changed`: the fingerprint differs from the plan's (permanent)
 * - `load`: the task or its data can't be loaded; `missing-module`: an extra is not installed
 * - `data-offline`: the data set is not in the cache and the network is forbidden
 * - `unsafe-code`, `unsupported`: refused by lm_eval for this model or these arguments (permanent)
 * - `requests`: the server's answers; `model`: the model object can't be built
 * - `metric`: scoring; `memory`, `crash`: the child died; `other`
 * - `write`: the file system does not take the result, or what lm_eval keeps: never the leaf's fault
 */
export const FailureClass = z.enum([
  "task-changed",
  "load",
  "missing-module",
  "data-offline",
  "unsafe-code",
  "unsupported",
  "requests",
  "model",
  "metric",
  "write",
  "memory",
  "crash",
  "other",
]);
export type FailureClass = z.output<typeof FailureClass>;
