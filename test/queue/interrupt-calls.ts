/**
 * Preload (`node --import`): disturbs the calls of a program to the file system, one by one, without the program knowing.
 * Calls of node:fs/promises and of its file handles are counted from 1.
 *
 * - EH_KILL_AT=n: SIGKILL before call n.
 * - EH_FAIL_AT=n EH_FAIL_CODE=ENOSPC: call n is not made and fails.
 * - EH_LIE=rename:ENOENT: every rename is made and then reported as failed, as a network file system does after it had to
 *   send a call twice.
 */
import promises from "node:fs/promises";
import { syncBuiltinESMExports } from "node:module";

type Call = (...args: unknown[]) => Promise<unknown>;

const { EH_KILL_AT, EH_FAIL_AT, EH_FAIL_CODE = "EIO", EH_LIE = "" } = process.env;
const [lyingCall, lyingCode = ""] = EH_LIE.split(":");
let calls = 0;

function refusal(code: string, name: string): Error {
  return Object.assign(new Error(`${code}: injected, ${name}`), { code, syscall: name });
}

function interrupt(owner: Record<string, Call>, name: string): void {
  const original = owner[name] as Call;
  owner[name] = async function (this: unknown, ...args: unknown[]) {
    calls += 1;
    if (calls === Number(EH_KILL_AT)) process.kill(process.pid, "SIGKILL");
    if (calls === Number(EH_FAIL_AT)) throw refusal(EH_FAIL_CODE, name);
    const answer = await original.apply(this, args);
    if (name === lyingCall) throw refusal(lyingCode, name);
    return answer;
  };
}

const handle = await promises.open("/dev/null", "r");
await handle.close();
const fileHandle = Object.getPrototypeOf(handle) as Record<string, Call>;
for (const name of ["writeFile", "write", "sync", "close"]) interrupt(fileHandle, name);
for (const name of ["access", "link", "mkdir", "open", "readFile", "readdir", "rename", "rm"]) {
  interrupt(promises as unknown as Record<string, Call>, name);
}
syncBuiltinESMExports();

process.on("exit", () => {
  if (calls < Number(EH_FAIL_AT)) process.stderr.write(`${calls} calls, none refused\n`);
});
