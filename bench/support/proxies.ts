/** What the balancer's bench compares: each is a process in front of the same servers. */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { nodeFlags } from "../../src/balancer/node-flags.ts";
import { root } from "../../test/support/require.ts";

export interface ProxyPlace {
  /** For its configuration and whatever else it writes. */
  readonly directory: string;
  readonly port: number;
  readonly servers: readonly number[];
}

export interface ProxyKind {
  readonly name: string;
  /** A program that has to be installed. */
  readonly needs?: string;
  /** Its command line. */
  readonly prepare: (place: ProxyPlace) => Promise<readonly string[]>;
}

const urls = (servers: readonly number[]) => servers.map((port) => `http://127.0.0.1:${port}`);

export const proxies: readonly ProxyKind[] = [
  {
    name: "balancer",
    prepare: async ({ port, servers }) => [
      join(root, "bin/eval-hive"),
      "balancer",
      "--listen",
      `127.0.0.1:${port}`,
      "--backend",
      ...urls(servers),
    ],
  },
  {
    name: "journalled",
    prepare: async ({ directory, port, servers }) => [
      process.execPath,
      ...nodeFlags,
      join(root, "bench/support/journalled-balancer.ts"),
      "--listen",
      String(port),
      "--directory",
      directory,
      ...urls(servers),
    ],
  },
  { name: "nginx", needs: "nginx", prepare: prepareNginx },
  { name: "haproxy", needs: "haproxy", prepare: prepareHaproxy },
  {
    name: "undici",
    prepare: async ({ port, servers }) => [
      process.execPath,
      join(root, "bench/support/undici-proxy.ts"),
      "--listen",
      String(port),
      ...urls(servers),
    ],
  },
];

/** One worker, least connections, upstream connections kept, bodies in memory: nothing that it could save is asked of it. */
async function prepareNginx({ directory, port, servers }: ProxyPlace): Promise<readonly string[]> {
  const file = join(directory, "nginx.conf");
  const temp = (kind: string) => `${kind}_temp_path ${directory}/nginx-${kind};`;
  await writeFile(
    file,
    `daemon off;
master_process off;
pid ${directory}/nginx.pid;
error_log stderr crit;
worker_rlimit_nofile 8192;
events { worker_connections 4096; }
http {
  access_log off;
  ${["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(temp).join("\n  ")}
  keepalive_requests 1000000000;
  client_max_body_size 512m;
  client_body_buffer_size 512k;
  tcp_nodelay on;
  upstream servers {
    least_conn;
    ${servers.map((server) => `server 127.0.0.1:${server};`).join("\n    ")}
    keepalive 1024;
    keepalive_requests 1000000000;
  }
  server {
    listen 127.0.0.1:${port} backlog=4096;
    location / {
      proxy_pass http://servers;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffer_size 16k;
      proxy_buffers 16 64k;
      proxy_busy_buffers_size 128k;
      proxy_max_temp_file_size 0;
    }
  }
}
`,
  );
  return ["nginx", "-e", "stderr", "-p", directory, "-c", file];
}

async function prepareHaproxy({
  directory,
  port,
  servers,
}: ProxyPlace): Promise<readonly string[]> {
  const file = join(directory, "haproxy.cfg");
  const lines = servers.map((server, n) => `  server s${n} 127.0.0.1:${server}`).join("\n");
  await writeFile(
    file,
    `global
  nbthread 1
  maxconn 4096
defaults
  mode http
  http-reuse always
  timeout connect 5s
  timeout client 600s
  timeout server 600s
listen servers
  bind 127.0.0.1:${port} backlog 4096
  balance leastconn
${lines}
`,
  );
  return ["haproxy", "-db", "-f", file];
}
