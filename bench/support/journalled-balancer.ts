/**
 * The balancer as `eval-hive balancer` runs it, but that it writes every answer to a journal, as in a job.
 *
 *     node bench/support/journalled-balancer.ts --listen 8000 --directory /tmp/journals http://127.0.0.1:9001
 */
import { rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { startBalancer } from "../../src/balancer/balancer.ts";
import { openLog } from "../../src/base/log.ts";

const { values, positionals } = parseArgs({
  options: { listen: { type: "string" }, directory: { type: "string", default: "." } },
  allowPositionals: true,
});
/** What one leaf may have by default. A new journal follows, so that nothing stops before the measuring does. */
const limitBytes = 2 * 2 ** 30;
const log = openLog(2);
const balancer = await startBalancer({
  host: "127.0.0.1",
  ports: [Number(values.listen)],
  token: undefined,
  attemptTimeoutMs: 600_000,
  log,
});
const backends = positionals.map((url, n) => ({ id: String(n), url }));
balancer.setServers(backends, { waitMs: Number.POSITIVE_INFINITY, identity: "bench" });

let journal = 0;
const pathOf = (n: number) => join(values.directory, `journal-${n}`);

/** Of all requests: without a token they belong to no account. */
function openJournal(): void {
  balancer.journals.open({
    account: "",
    part: "",
    read: [],
    own: [],
    write: pathOf(journal),
    limitBytes: 4 * limitBytes,
    budget: { name: "bench", limitBytes: Number.POSITIVE_INFINITY },
    onOff: (reason) => log.error({ reason }, "the journal is off: the figures are of no use"),
  });
}

openJournal();
setInterval(async () => {
  const full = pathOf(journal);
  const { size } = await stat(full).catch(() => ({ size: 0 }));
  if (size < limitBytes) return;
  journal += 1;
  const closed = balancer.journals.close("", "");
  openJournal();
  await closed;
  await rm(full);
}, 500);
