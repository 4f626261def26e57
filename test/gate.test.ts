import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { cp, mkdir, symlink, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { describe, test } from "node:test";
import { root } from "./support/require.ts";
import { temporaryDirectory } from "./support/temporary.ts";

/** What the gate must see, each in a small tree that is clean without it. */
const plants = {
  "a floating promise": {
    fails: "biome",
    says: "noFloatingPromises",
    files: {
      "src/base/clock.ts":
        "async function tick(): Promise<void> {}\nexport function start(): void {\n  tick();\n}\n",
    },
  },
  "an import cycle": {
    fails: "biome",
    says: "noImportCycles",
    files: {
      "src/base/clock.ts":
        'import { b } from "./other.ts";\n\nexport const start = (): number => b();\n',
      "src/base/other.ts":
        'import { start } from "./clock.ts";\n\nexport const b = (): number => start();\n',
    },
  },
  "an import from a higher rank": {
    fails: "biome",
    says: "src/base imports only from lower ranks",
    files: {
      "src/base/clock.ts":
        'import type { P } from "../run/plan.ts";\n\nexport const start = (p: P): P => p;\n',
      "src/run/plan.ts": "export type P = number;\n",
    },
  },
  "a sideways import": {
    fails: "biome",
    says: "src/slurm imports only from lower ranks",
    files: {
      "src/slurm/client.ts": 'import { k } from "../config/k.ts";\n\nexport const client = k;\n',
      "src/config/k.ts": "export const k = 1;\n",
      "src/base/clock.ts": "export const start = (): number => 1;\n",
      "src/cli/main.ts":
        'import { start } from "../base/clock.ts";\nimport { client } from "../slurm/client.ts";\n\nstart();\nprocess.stdout.write(String(client));\n',
    },
  },
  "a package outside its home": {
    fails: "biome",
    says: "execa has its home in src/base/spawn.ts",
    files: {
      "src/config/k.ts": 'import { execa } from "execa";\n\nexport const k = execa;\n',
      "src/cli/main.ts":
        'import { start } from "../base/clock.ts";\nimport { k } from "../config/k.ts";\n\nstart();\nprocess.stdout.write(String(k));\n',
    },
  },
  "a type error": {
    fails: "tsc",
    says: "TS2322",
    files: { "src/base/clock.ts": 'export const start = (): number => "one";\n' },
  },
  "an unused export": {
    fails: "knip",
    says: "unused",
    files: {
      "src/base/clock.ts":
        "export const start = (): number => 1;\nexport const unused = (): number => 2;\n",
    },
  },
} as const;

/** A tree with our settings and almost no code, in which check.sh finds nothing wrong. */
async function cleanTree(directory: string): Promise<void> {
  for (const file of ["biome.json", "knip.json", "tsconfig.json"]) {
    await cp(join(root, file), join(directory, file));
  }
  await plant(directory, {
    "package.json": `${JSON.stringify({ name: "planted", type: "module" }, null, 2)}\n`,
    "src/base/clock.ts": "export const start = (): number => 1;\n",
    "src/cli/main.ts": 'import { start } from "../base/clock.ts";\n\nstart();\n',
  });
  await symlink(join(root, "node_modules"), join(directory, "node_modules"));
}

async function plant(directory: string, files: Readonly<Record<string, string>>): Promise<void> {
  for (const [name, text] of Object.entries(files)) {
    await mkdir(dirname(join(directory, name)), { recursive: true });
    await writeFile(join(directory, name), text);
  }
}

function check(directory: string): { status: number | null; output: string } {
  const { status, stdout, stderr } = spawnSync("sh", [join(root, "scripts/check.sh")], {
    env: { ...process.env, CHECK_ROOT: directory, NO_COLOR: "1" },
    encoding: "utf8",
  });
  return { status, output: stdout + stderr };
}

describe("npm run check", () => {
  test("passes a clean tree", async () => {
    await using directory = await temporaryDirectory();
    await cleanTree(directory.path);
    const { status, output } = check(directory.path);
    assert.equal(status, 0, output);
  });

  for (const [fault, { fails, says, files }] of Object.entries(plants)) {
    test(`sees ${fault}`, async () => {
      await using directory = await temporaryDirectory();
      await cleanTree(directory.path);
      await plant(directory.path, files);
      const { status, output } = check(directory.path);
      assert.equal(status, 1, output);
      assert.match(output, new RegExp(`check failed: ${fails}`));
      assert.ok(output.includes(says), output);
    });
  }
});
