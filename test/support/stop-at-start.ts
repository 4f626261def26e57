/**
 * Preload (`NODE_OPTIONS=--import=…`): lets a test look at a process of the product from its first line on.
 *
 * - EH_STOP_AT_START=word: the process that has this word in its command line stops itself (SIGSTOP) before its first line,
 *   with all the threads that it will use.
 * - Temporary files get the same names in every process, so that they can be named before they are there.
 */
import crypto from "node:crypto";
import { stat } from "node:fs/promises";
import { syncBuiltinESMExports } from "node:module";

/** Of temporary names, of journals and owners; longer ones mark lives of processes and must differ. */
const shortNames = new Set([4, 6]);

const { randomBytes } = crypto;
crypto.randomBytes = ((size: number) =>
  shortNames.has(size) ? Buffer.alloc(size, 0xab) : randomBytes(size)) as typeof randomBytes;
syncBuiltinESMExports();

const word = process.env["EH_STOP_AT_START"];
if (word !== undefined && process.argv.includes(word)) {
  // Brings up the threads for files.
  await stat("/");
  process.kill(process.pid, "SIGSTOP");
}
