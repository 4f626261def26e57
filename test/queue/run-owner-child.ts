/** Holds a run directory until its stdin ends: `run-owner-child.ts <directory> <owner>`. Says "held", or the error's code. */
import { identifyThisProcess } from "../../src/queue/owner-record.ts";
import { holdRun } from "../../src/queue/run-owner.ts";
import { RunLayout } from "../../src/run/layout.ts";

const [directory, owner] = process.argv.slice(2) as [string, string];
try {
  await using _hold = await holdRun(new RunLayout(directory), {
    identity: await identifyThisProcess(owner),
  });
  process.stdout.write("held\n");
  for await (const _ of process.stdin) {
    // Until the end of file.
  }
} catch (error) {
  process.stdout.write(`${(error as { code?: string }).code ?? String(error)}\n`);
}
