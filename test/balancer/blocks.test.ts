import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { Blocks, HeldBody } from "../../src/balancer/blocks.ts";

function bodiesOf(blocks: Blocks, count: number): HeldBody[] {
  return Array.from({ length: count }, (_, n) => {
    const body = new HeldBody(blocks);
    body.append(Buffer.alloc(100_000, n));
    return body;
  });
}

describe("memory for bodies", () => {
  test("is used again, whatever was in it", () => {
    const blocks = new Blocks();
    for (const body of bodiesOf(blocks, 3)) body.release();
    const kept = blocks.freeBytes;
    assert(kept >= 300_000, `${kept}`);
    const bodies = bodiesOf(blocks, 3);
    assert.equal(blocks.freeBytes, 0);
    const texts = bodies.map(({ chunks }) => Buffer.concat(chunks));
    assert.deepEqual(
      texts,
      [0, 1, 2].map((n) => Buffer.alloc(100_000, n)),
    );
    for (const body of bodies) body.release();
    assert.equal(blocks.freeBytes, kept);
  });

  test("is given up by and by, but for what was needed since the last look", () => {
    const blocks = new Blocks();
    for (const body of bodiesOf(blocks, 16)) body.release();
    const all = blocks.freeBytes;
    blocks.trim();
    assert.equal(blocks.freeBytes, all, "it was all in use");
    for (const body of bodiesOf(blocks, 8)) body.release();
    blocks.trim();
    assert.equal(blocks.freeBytes, (all * 3) / 4);
    for (let n = 0; n < 10; n++) blocks.trim();
    assert.equal(blocks.freeBytes, 0);
  });
});
