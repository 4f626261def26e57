import { destination, type Logger, pino } from "pino";

export type { Logger };

/**
 * A logger for people, one JSON line per message. Writes are synchronous: a process that is killed loses no line.
 * @param target a file descriptor or a path; the default is stderr.
 */
export function openLog(target: number | string = 2, level = "info"): Logger {
  const to = destination({ dest: target, sync: true, mkdir: false });
  // A terminal that was closed, a full disk: no reason to end what is told of.
  to.on("error", () => {});
  return pino(
    { level, base: null, timestamp: pino.stdTimeFunctions.isoTime, messageKey: "message" },
    to,
  );
}
