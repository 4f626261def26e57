import { openLog } from "../../src/base/log.ts";

/** For tests that look at what happens, not at what is told about it. */
export const silentLog = openLog(2, "silent");
