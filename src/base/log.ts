import { destination, type Logger, pino } from "pino";

export type { Logger };

/**
 * A logger for people, one JSON line per message. Writes are synchronous: a process that is killed loses no line.
 * @param target a file descriptor or a path; the default is stderr.
 */
export function openLog(target: number | string = 2, level = "info"): Logger {
  return pino(
    { level, base: null, timestamp: pino.stdTimeFunctions.isoTime, messageKey: "message" },
    destination({ dest: target, sync: true, mkdir: false }),
  );
}
