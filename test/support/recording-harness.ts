/**
 * A harness with a memory: the first answer to a plan request comes from the real one and is kept, later ones come at once.
 * For tests of what planning writes, again and again.
 *
 *     node recording-harness.ts DIRECTORY PYTHON [arguments of Python…]
 */
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";

const [directory = "", python = "", ...args] = process.argv.slice(2);
mkdirSync(directory, { recursive: true });

function keep(name: string, line: string): void {
  const temporary = join(directory, `${name}.${process.pid}`);
  writeFileSync(temporary, line);
  renameSync(temporary, join(directory, name));
}

/** What the real one says to a request. */
async function ask(request: string): Promise<string> {
  const real = spawn(python, args, { stdio: ["pipe", "pipe", "inherit"] });
  real.stdin.write(request);
  for await (const line of createInterface({ input: real.stdout })) {
    if (line.startsWith('{"type":"hello"')) {
      keep("hello", line);
      continue;
    }
    real.stdin.end();
    return line;
  }
  throw new Error("The harness has not answered");
}

if (!existsSync(join(directory, "hello"))) await ask('{"type":"ping","n":1}\n');
process.stdout.write(`${readFileSync(join(directory, "hello"), "utf8")}\n`);
for await (const line of createInterface({ input: process.stdin })) {
  const { id, ...request } = JSON.parse(line) as { id: string };
  const name = createHash("sha256").update(JSON.stringify(request)).digest("hex");
  if (!existsSync(join(directory, name))) keep(name, await ask(`${line}\n`));
  const answer = JSON.parse(readFileSync(join(directory, name), "utf8")) as object;
  process.stdout.write(`${JSON.stringify({ ...answer, id })}\n`);
}
