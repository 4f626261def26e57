import assert from "node:assert/strict";
import { createServer } from "node:net";
import { describe, test } from "node:test";
import { choosePort, ephemeralRange, isFree } from "../../src/agent/ports.ts";
import { findPortOwner, membersOf } from "../../src/agent/socket-owner.ts";
import { type ChildGroup, startGroup } from "../../src/base/spawn.ts";
import { skip } from "../support/require.ts";
import { until } from "../support/until.ts";

const mark = `socket-owner-${process.pid}`;

/** Listens at a port, as a program in a group of its own. */
async function startListener(port: number, host: string, prefix = ""): Promise<ChildGroup> {
  const program = `require("node:net").createServer().listen(${port}, "${host}")`;
  const command = `${prefix} "${process.execPath}" -e '${program}'`;
  return await startGroup("bash", ["-c", `${command}; wait`], {
    env: { PATH: process.env["PATH"], TEST_LIFE: mark },
  });
}

/** Listens in this process. */
async function listen(port: number, host: string): Promise<AsyncDisposable> {
  const server = createServer();
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, host, resolve);
  });
  return {
    [Symbol.asyncDispose]: async () => {
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

describe("the owner of a port", () => {
  for (const host of ["127.0.0.1", "::1"]) {
    test(`is found for a socket that listens on ${host}`, async (t) => {
      if (host.includes(":") && !(await hasIpv6())) return skip(t, "no IPv6 here");
      const port = await choosePort();
      const ours = { group: 0, name: "TEST_LIFE", value: mark };
      assert.equal(await findPortOwner(port, ours), "nobody");
      await using group = await startListener(port, host);
      await until(async () => (await findPortOwner(port, ours)) === "ours");
      assert.equal(await findPortOwner(port, { ...ours, value: "other" }), "stranger");
      const byGroup = { group: group.pid, name: "TEST_LIFE", value: "other" };
      assert.equal(await findPortOwner(port, byGroup), "ours");
    });
  }

  test("is found by its environment when it has left its group", async () => {
    const port = await choosePort();
    await using group = await startListener(port, "127.0.0.1", "setsid --wait");
    const byGroup = { group: group.pid, name: "TEST_LIFE", value: "other" };
    await until(async () => (await findPortOwner(port, byGroup)) !== "nobody");
    assert.equal(await findPortOwner(port, byGroup), "stranger");
    const ours = { group: group.pid, name: "TEST_LIFE", value: mark };
    assert.equal(await findPortOwner(port, ours), "ours");
    for (const pid of await membersOf(ours)) process.kill(pid, "SIGKILL");
  });
});

describe("a chosen port", () => {
  test("lies outside the range that outgoing connections get theirs from", async () => {
    const [from, to] = await ephemeralRange();
    for (let n = 0; n < 50; n++) {
      const port = await choosePort();
      assert.ok(port >= 10_000 && port <= 65_535 && (port < from || port > to), String(port));
    }
  });

  test("is none of those to avoid", async () => {
    const first = await choosePort();
    const avoid = new Set<number>();
    for (let port = 10_000; port <= 65_535; port++) if (port !== first) avoid.add(port);
    // A hundred looks at random find the only one seldom, and never another one.
    const chosen = await choosePort(avoid).catch((error: { code: string }) => error.code);
    assert.ok(chosen === first || chosen === "ports.none", String(chosen));
  });

  for (const host of ["127.0.0.1", "0.0.0.0", "::1", "::"]) {
    test(`is not free while somebody listens on ${host}`, async (t) => {
      if (host.includes(":") && !(await hasIpv6())) return skip(t, "no IPv6 here");
      const port = await choosePort();
      {
        await using _ = await listen(port, host);
        assert.equal(await isFree(port), false);
      }
      assert.equal(await isFree(port), true);
    });
  }
});

async function hasIpv6(): Promise<boolean> {
  try {
    await using _ = await listen(0, "::1");
    return true;
  } catch {
    return false;
  }
}
