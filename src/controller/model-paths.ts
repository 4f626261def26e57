import { readdir, stat } from "node:fs/promises";
import { isAbsolute, resolve } from "node:path";
import { mapConcurrently } from "../base/map-concurrently.ts";
import { type Integer, toInteger } from "../config/quantities.ts";

export interface Checkpoint {
  readonly name: string;
  readonly step: Integer;
}

/** Directories whose whole name matches, by (step, name): `step_0100` and `step_100` are both kept. */
export function findCheckpoints(names: readonly string[], pattern: string): Checkpoint[] {
  const parts = pattern.split(/(\{step\}|\*)/).map((part) => {
    if (part === "{step}") return "([0-9]+)";
    return part === "*" ? ".*" : part.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
  });
  const matcher = new RegExp(`^${parts.join("")}$`, "s");
  return names
    .flatMap((name): Checkpoint[] => {
      const digits = matcher.exec(name)?.[1];
      return digits === undefined ? [] : [{ name, step: toInteger(BigInt(digits)) }];
    })
    .sort((a, b) => (a.step < b.step ? -1 : a.step > b.step ? 1 : a.name < b.name ? -1 : 1));
}

/** One readdir; a look of its own only at symbolic links. */
export async function directoryNames(path: string): Promise<string[]> {
  const entries = await readdir(path, { withFileTypes: true });
  const links = entries.filter((entry) => entry.isSymbolicLink());
  const isDirectory = await mapConcurrently(links, async ({ name }) =>
    (await stat(resolve(path, name)).catch(() => undefined))?.isDirectory(),
  );
  return [
    ...entries.filter((entry) => entry.isDirectory()),
    ...links.filter((_, index) => isDirectory[index] === true),
  ].map(({ name }) => name);
}

/** What a look at the disk said of a model's path; `unknown`: it may be a Hugging Face id. */
export type Presence = "present" | "missing" | "unknown";

/** Paths that can be nothing else than local; anything else may be a Hugging Face id. */
export function isLocal(path: string): boolean {
  return isAbsolute(path) || /^\.{1,2}(\/|$)/.test(path);
}

export async function lookAt(path: string, baseDirectory: string): Promise<Presence> {
  try {
    await stat(resolve(baseDirectory, path));
    return "present";
  } catch {
    const maybeHubId = !isLocal(path) && /^[\w.-]+(\/[\w.-]+)?$/.test(path);
    return maybeHubId ? "unknown" : "missing";
  }
}

/** As Python's pathlib prints it: single slashes, but for exactly two at the start; no "." parts. */
export function joinAsPathlib(path: string, name: string): string {
  const parts = path.split("/").filter((part) => part !== "" && part !== ".");
  const [slashes = ""] = /^\/*/.exec(path) ?? [];
  return `${slashes.length === 2 ? "//" : slashes.slice(0, 1)}${[...parts, name].join("/")}`;
}
