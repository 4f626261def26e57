/** The stand-ins of the benches that are written in C, so that they cost next to nothing beside what is measured. */
import { join } from "node:path";
import { runToEnd } from "../../src/base/spawn.ts";

/**
 * Compiles `bench/support/{name}.c`. @returns the program, which lies in `directory`.
 * @throws when there is no C compiler, with what it says
 */
export async function compile(
  name: "paced-server" | "stub-server",
  directory: string,
): Promise<string> {
  const program = join(directory, name);
  const source = join(import.meta.dirname, `${name}.c`);
  const made = await runToEnd("cc", ["-O2", "-o", program, source], { env: process.env });
  if (made.code !== 0) throw new Error(`Cannot compile ${source}: ${made.stderr}`);
  return program;
}
