/**
 * What one would write in an afternoon: a proxy for several servers on undici, least requests in flight, without retries.
 *
 *     node bench/support/undici-proxy.ts --listen 8000 http://127.0.0.1:9001 http://127.0.0.1:9002
 */
import { createServer } from "node:http";
import { parseArgs } from "node:util";
import { Pool } from "undici";

const { values, positionals } = parseArgs({
  options: { listen: { type: "string" } },
  allowPositionals: true,
});
const servers = positionals.map((url) => ({ pool: new Pool(url), inFlight: 0 }));
let turn = 0;

const proxy = createServer((incoming, outgoing) => {
  turn += 1;
  let server = servers[turn % servers.length] as (typeof servers)[number];
  for (const other of servers) if (other.inFlight < server.inFlight) server = other;
  server.inFlight += 1;
  const { host: _, connection: __, ...headers } = incoming.headers;
  const { url: path = "/", method = "GET" } = incoming;
  server.pool
    .stream({ path, method, headers, body: incoming }, (answer) => {
      const { "transfer-encoding": _, connection: __, ...passed } = answer.headers;
      return outgoing.writeHead(answer.statusCode, passed);
    })
    .catch(() => {
      if (outgoing.headersSent) outgoing.destroy();
      else outgoing.writeHead(502).end();
    })
    .finally(() => {
      server.inFlight -= 1;
    });
});

proxy.listen(Number(values.listen), "127.0.0.1");
