// Pure unit files share one process: together they cost what one of them would cost alone.
import "./base/files.test.ts";
import "./base/json.test.ts";
import "./base/lifetimes.test.ts";
import "./bench/repeats.test.ts";
import "./cli/render/live-display.test.ts";
import "./cli/render/run-progress.test.ts";
import "./controller/batches.test.ts";
import "./controller/refusals.test.ts";
import "./controller/store.test.ts";
import "./run/environment.test.ts";
import "./run/task-map.test.ts";
