import type { EventSink, EventSubject } from "../events/event.ts";
import type { NodeReport } from "./node-protocol.ts";

/** What a node agent says of one server. */
export type ServerReport = Exclude<NodeReport, { type: "pong" }>;

/** Records it. */
export async function publishReport(
  events: EventSink,
  subject: EventSubject,
  report: ServerReport,
): Promise<void> {
  const { server } = report;
  switch (report.type) {
    case "starting": {
      const { start_attempt, port, log } = report;
      return await events.publish("server.starting", subject, { server, start_attempt, port, log });
    }
    case "healthy": {
      const { start_attempt, port, start_s } = report;
      const body = { server, start_attempt, port, start_s };
      return await events.publish("server.healthy", subject, body);
    }
    case "unhealthy":
      return await events.publish("server.unhealthy", subject, { server, reason: report.reason });
    case "down": {
      const reason = [report.reason, ...report.log_tail.slice(-3)].join("\n");
      return await events.publish("server.restarted", subject, { server, reason });
    }
    case "failed": {
      const { reason, log_tail } = report;
      return await events.publish("server.failed", subject, { server, reason, log_tail });
    }
    case "stopped":
      return;
  }
}
