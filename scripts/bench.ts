/** Runs bench/NAME.ts with the arguments after NAME; without NAME it lists what there is. */
import { globSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";

const directory = join(import.meta.dirname, "../bench");
const names = globSync("*.ts", { cwd: directory })
  .map((file) => basename(file, ".ts"))
  .sort();

/** What a bench measures: the first sentence of the comment that its file begins with, after the command that runs it. */
function describe(name: string): string {
  const comment = /^\/\*\*(.*?)\*\//s.exec(readFileSync(join(directory, `${name}.ts`), "utf8"));
  const text = (comment?.[1] ?? "").replace(/\s*\n\s*\*?\s*/g, " ").trim();
  const sentence = /^.*?[.](?=\s|$)/.exec(text)?.[0] ?? text;
  return sentence.replace(/^`npm run bench -- .*?`: /, "");
}

function list(): string {
  const width = Math.max(...names.map((name) => name.length));
  return names.map((name) => `  ${name.padEnd(width)}  ${describe(name)}\n`).join("");
}

const [name, ...rest] = process.argv.slice(2);
if (name === undefined) {
  process.stdout.write(
    `npm run bench -- NAME measures, prints and writes bench/results/NAME-MACHINE.json:\n${list()}`,
  );
} else if (names.includes(name)) {
  const file = join(directory, `${name}.ts`);
  process.argv = [process.execPath, file, ...rest];
  await import(file);
} else {
  process.stderr.write(`eval-hive: there is no bench "${name}"; there are:\n${list()}`);
  process.exitCode = 2;
}
