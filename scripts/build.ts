/** Bundles src/ into dist/: a CLI in lazy chunks, and one file each for the processes that jobs start. */
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { type BuildOptions, build, type Plugin } from "esbuild";

const root = join(import.meta.dirname, "..");
const dist = join(root, "dist");

// CommonJS dependencies inside an ES module bundle still call require(). Whoever has a Node that is too old for the line
// after it, and so for src/cli/main.ts to say so, is told here.
const banner = {
  js: `if (!process.getBuiltinModule) { console.error("eval-hive: Cannot run on Node " + process.versions.node + ": eval-hive needs 24"); process.exit(3); }
const require = process.getBuiltinModule("module").createRequire(import.meta.url);`,
};

// A quarter of an agent would be zod's messages in other languages, which every process would read and nobody sees.
const english: Plugin = {
  name: "zod-in-english",
  setup: ({ onResolve }) => {
    onResolve({ filter: /\/locales\/index\.js$/ }, ({ importer, resolveDir }) =>
      importer.includes("/zod/") ? { path: join(resolveDir, "../locales/en.js") } : undefined,
    );
  },
};

// An import of node:http makes Node look at all its exports, and so load an HTTP client, a WebSocket and more; node:crypto
// is no better. Asked for this way, a module of Node gives what is used of it.
const builtinsAsAsked: Plugin = {
  name: "builtins-as-asked",
  setup: ({ onResolve, onLoad }) => {
    onResolve({ filter: /^node:/ }, ({ path, kind }) =>
      kind === "import-statement" ? { path, namespace: "builtin" } : undefined,
    );
    onLoad({ filter: /^/, namespace: "builtin" }, ({ path }) => ({
      contents: `module.exports = process.getBuiltinModule(${JSON.stringify(path)});`,
    }));
  },
};

// commander could start programs as subcommands. Ours are none, and to load what starts programs takes longer than --help.
const noPrograms: Plugin = {
  name: "no-programs-as-subcommands",
  setup: ({ onResolve, onLoad }) => {
    onResolve({ filter: /^node:child_process$/ }, ({ path, importer }) =>
      importer.includes("/node_modules/commander/") ? { path, namespace: "nothing" } : undefined,
    );
    onLoad({ filter: /^/, namespace: "nothing" }, () => ({ contents: "module.exports = {};" }));
  },
};

const shared = {
  bundle: true,
  platform: "node",
  target: "node24",
  format: "esm",
  banner,
  plugins: [english, noPrograms, builtinsAsAsked],
  minifySyntax: true,
  legalComments: "none",
  logLevel: "warning",
  absWorkingDir: root,
} satisfies BuildOptions;

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
