import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { beginEpoch, raiseEpoch, readEpoch } from "../../src/queue/epoch.ts";
import { openFsQueue } from "../../src/queue/fs-queue.ts";
import { RunLayout } from "../../src/run/layout.ts";
import { temporaryDirectory } from "../support/temporary.ts";

test("an epoch begins once, and the highest one counts", async () => {
  await using directory = await temporaryDirectory();
  const layout = new RunLayout(directory.path);
  assert.equal(await readEpoch(layout), undefined);
  await assert.rejects(openFsQueue({ layout }), { code: "queue.missing" });
  assert.equal(await beginEpoch(layout, 9), true);
  assert.equal(await beginEpoch(layout, 9), false);
  await writeFile(join(layout.epochs, ".epoch.77.0123.tmp"), "");
  assert.equal(await raiseEpoch(layout), 10);
  assert.equal(await readEpoch(layout), 10);
});

test("each of several that raise the epoch at once gets one of its own", async () => {
  await using directory = await temporaryDirectory();
  const layout = new RunLayout(directory.path);
  const raised = await Promise.all(Array.from({ length: 8 }, () => raiseEpoch(layout)));
  assert.deepEqual(
    raised.sort((a, b) => a - b),
    [1, 2, 3, 4, 5, 6, 7, 8],
  );
});
