/** Publishes events until it is killed; prints each seq once its publish has resolved. Argument: run directory. */
import { openJournal } from "../../src/events/journal.ts";
import { RunLayout } from "../../src/run/layout.ts";

const journal = await openJournal({
  layout: new RunLayout(process.argv[2] as string),
  runId: "run-1",
  node: "test",
  writer: "killed",
});
for (let seq = 1; ; seq++) {
  const body = { slot: 0, fingerprint: "x".repeat(seq % 3000) };
  void journal.publish("leaf.started", { unit: "m--main", leaf: `leaf-${seq}` }, body).then(() => {
    process.stdout.write(`${seq}\n`);
  });
  if (seq % 8 === 0)
    await journal.publish("unit.started", { unit: "m--main" }, { generation: ++seq });
}
