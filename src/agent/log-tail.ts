import { open } from "node:fs/promises";

const tailBytes = 8_192;

/** The last lines of a log, for messages; empty when it can't be read. */
export async function readLogTail(path: string, lines = 12): Promise<string[]> {
  try {
    const file = await open(path, "r");
    try {
      const { size } = await file.stat();
      const from = Math.max(0, size - tailBytes);
      const { buffer, bytesRead } = await file.read(Buffer.alloc(tailBytes), 0, tailBytes, from);
      const text = buffer.toString("utf8", 0, bytesRead).trimEnd();
      return text === "" ? [] : text.split("\n").slice(-lines);
    } finally {
      await file.close();
    }
  } catch {
    return [];
  }
}
