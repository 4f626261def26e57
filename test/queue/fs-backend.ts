import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { beginEpoch } from "../../src/queue/epoch.ts";
import { type FsQueue, openFsQueue } from "../../src/queue/fs-queue.ts";
import { RunLayout } from "../../src/run/layout.ts";
import type { QueueBackend, QueuePlace } from "../contract/queue-backend.ts";
import { temporaryDirectory } from "../support/temporary.ts";

export async function openAt(address: string): Promise<FsQueue> {
  return await openFsQueue({ layout: new RunLayout(address) });
}

async function place(): Promise<QueuePlace> {
  const directory = await temporaryDirectory();
  const layout = new RunLayout(directory.path);
  await beginEpoch(layout, 1);
  return {
    address: directory.path,
    open: () => openAt(directory.path),
    strays: async () => {
      const all = await readdir(layout.queue, { recursive: true, withFileTypes: true });
      return all
        .filter(({ name }) => name.startsWith("."))
        .map((entry) => join(entry.parentPath, entry.name));
    },
    [Symbol.asyncDispose]: () => directory[Symbol.asyncDispose](),
  };
}

export const fsBackend: QueueBackend = {
  name: "file system",
  module: import.meta.filename,
  killer: join(import.meta.dirname, "interrupt-calls.ts"),
  place,
};
