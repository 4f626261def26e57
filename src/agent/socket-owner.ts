import { readdir, readFile, readlink } from "node:fs/promises";
import { environmentHolds, filterProcesses, processGroup } from "../base/proc.ts";

/** Whose listening socket a port has. `unknown`: somebody's, and /proc does not tell. */
export type PortOwner = "nobody" | "ours" | "stranger" | "unknown";

/** What marks a process as part of one server: its group, or an environment variable that survives a change of group. */
export interface Membership {
  readonly group: number;
  readonly name: string;
  readonly value: string;
}

/** Who listens on a TCP port of this node. */
export async function findPortOwner(port: number, us: Membership): Promise<PortOwner> {
  return await ownerOf(await listeningInodes(port), us);
}

/** The same, to be asked again and again: what is ours stays so, and all processes are looked at once for it. */
export function watchPortOwner(port: number, us: Membership): () => Promise<PortOwner> {
  let ours: ReadonlySet<string> = new Set();
  return async () => {
    const inodes = await listeningInodes(port);
    if (inodes.size > 0 && [...inodes].every((inode) => ours.has(inode))) return "ours";
    const owner = await ownerOf(inodes, us);
    // Of several, one may be a stranger's.
    if (owner === "ours" && inodes.size === 1) ours = inodes;
    return owner;
  };
}

async function ownerOf(inodes: ReadonlySet<string>, us: Membership): Promise<PortOwner> {
  if (inodes.size === 0) return "nobody";
  let hidden = false;
  for (const pid of await membersOf(us)) {
    const held = await socketInodes(pid);
    if (held === undefined) hidden = true;
    else if (held.some((inode) => inodes.has(inode))) return "ours";
  }
  return hidden ? "unknown" : "stranger";
}

/** Processes that belong to a server, whatever group they are in now. */
export async function membersOf({ group, name, value }: Membership): Promise<number[]> {
  return await filterProcesses(
    async (pid) =>
      (await processGroup(pid)) === group || (await environmentHolds(pid, name, value)),
  );
}

/** Inodes of the sockets that listen on a port, on any address (proc_net(5): state 0A is LISTEN). */
async function listeningInodes(port: number): Promise<Set<string>> {
  const suffix = `:${port.toString(16).toUpperCase().padStart(4, "0")}`;
  const inodes = new Set<string>();
  for (const file of ["/proc/net/tcp", "/proc/net/tcp6"]) {
    const text = await readFile(file, "utf8").catch(() => "");
    for (const line of text.split("\n")) {
      // A node may have thousands of sockets, and this is asked every second.
      if (!line.includes(suffix)) continue;
      const fields = line.trim().split(/\s+/);
      if (fields[1]?.endsWith(suffix) === true && fields[3] === "0A") inodes.add(fields[9] ?? "");
    }
  }
  return inodes;
}

/** Inodes of the sockets that a process has open; undefined when they may not be read. */
async function socketInodes(pid: number): Promise<string[] | undefined> {
  try {
    const links = await Promise.all(
      (await readdir(`/proc/${pid}/fd`)).map((fd) =>
        readlink(`/proc/${pid}/fd/${fd}`).catch(() => ""),
      ),
    );
    return links.flatMap((link) => /^socket:\[(\d+)\]$/.exec(link)?.[1] ?? []);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "ENOENT" ? [] : undefined;
  }
}
