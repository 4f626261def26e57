/** Bundles src/ into dist/: a CLI in lazy chunks, and one file each for the processes that jobs start. */
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { build } from "esbuild";

const root = join(import.meta.dirname, "..");
const dist = join(root, "dist");

// CommonJS dependencies inside an ES module bundle still call require(). An import of node:module would load more of it.
const banner = {
  js: 'const require = process.getBuiltinModule("module").createRequire(import.meta.url);',
};

const shared = {
  bundle: true,
  platform: "node",
  target: "node24",
  format: "esm",
  banner,
  minifySyntax: true,
  legalComments: "none",
  logLevel: "warning",
  absWorkingDir: root,
} as const;

await rm(dist, { recursive: true, force: true });
await Promise.all([
  build({
    ...shared,
    entryPoints: { "eval-hive": "src/cli/main.ts" },
    outdir: join(dist, "cli"),
    splitting: true,
    external: ["parquet-wasm"],
    outExtension: { ".js": ".mjs" },
  }),
  build({ ...shared, entryPoints: ["src/agent/main.ts"], outfile: join(dist, "agent.mjs") }),
]);
