/** The text that the demo's models read: tales from prose.txt, and days in the life of the town in world.ts. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { openRandom, type Random } from "./random.ts";
import * as world from "./world.ts";

/** The last ones are for testing: no model reads them. */
const heldOutTales = 2;
const trainingSeed = 1;
const heldOutSeed = 2;

function readTales(): string[] {
  const prose = readFileSync(join(import.meta.dirname, "prose.txt"), "utf8");
  return prose.split("\n\n").map((tale) => `${tale.trim()}\n`);
}

/** Documents of together at least `bytes` bytes, the same ones in the same order each time: a shorter text starts a longer one. */
export function writeTrainingText(bytes: number): string[] {
  const random = openRandom(trainingSeed);
  const tales = readTales().slice(0, -heldOutTales);
  const documents: string[] = [];
  for (let size = 0, nextTale = 0; size < bytes; ) {
    const isTale = nextTale < tales.length && size >= nextTale * 9_000;
    const document = isTale ? (tales[nextTale++] as string) : writeDocument(random);
    documents.push(document);
    size += Buffer.byteLength(document) + 1;
  }
  return documents;
}

/** Documents that no model has read. */
export function writeHeldOutText(documents: number): string[] {
  const random = openRandom(heldOutSeed);
  const tales = readTales().slice(-heldOutTales);
  const days = Array.from({ length: documents - tales.length }, () => writeStory(random));
  return [...days, ...tales];
}

function writeDocument(random: Random): string {
  const kinds = [
    writeStory,
    writeStory,
    writeStory,
    writeRegister,
    writeSums,
    writeLesson,
    writeRhyme,
  ];
  return random.pick(kinds)(random);
}

function writeStory(random: Random): string {
  const sentences = [random.pick(world.weather), writeWork(random)];
  for (let more = 2 + random.below(3); more > 0; more--) {
    const kinds = [writeWork, writeAnimals, writeAnimals, writeSimile, writeSimile, writeTalk];
    sentences.push(random.pick(kinds)(random));
  }
  return `${sentences.join(" ")}\n`;
}

function writeWork(random: Random): string {
  const { name, trade } = random.pickCommon(world.people);
  return `${name} the ${trade} ${random.pick(world.work[trade] as readonly string[])}.`;
}

/** A sentence whose last word the words before it call for. */
export function writeSimile(random: Random): string {
  const { name } = random.pickCommon(world.people);
  const [start, end] = random.pickCommon(world.similes);
  return `${random.pick(["That day", "All morning", "In the evening", "As ever,"])} ${name} was as ${start} ${end}.`;
}

/** About one animal, or many: the verb has to agree. */
function writeAnimals(random: Random): string {
  const [one, many] = random.pickCommon(world.animals);
  const doing = random.pickCommon(world.doings);
  const place = random.below(2) === 0 ? "" : ` ${random.pick(world.places)}`;
  return random.below(2) === 0 ? `The ${one} ${doing}s${place}.` : `The ${many} ${doing}${place}.`;
}

function writeTalk(random: Random): string {
  const { name, trade } = random.pickCommon(world.people);
  return `"${random.pick(world.sayings)}" said ${name} the ${trade}.`;
}

function writeRegister(random: Random): string {
  const entries = Array.from({ length: 4 + random.below(5) }, () =>
    random.pickCommon(world.people),
  );
  return `Who lives where?\n${entries.map(({ name, home }) => `${name}: ${home}\n`).join("")}`;
}

function writeSums(random: Random): string {
  const lines = Array.from({ length: 4 + random.below(5) }, () => {
    const left = Math.min(random.below(10), random.below(10));
    const right = random.below(10);
    return `${left} + ${right} = ${left + right}\n`;
  });
  return `Sums for the first class\n${lines.join("")}`;
}

function writeLesson(random: Random): string {
  const lines = Array.from({ length: 4 + random.below(4) }, () => {
    const [word, opposite] = random.pickCommon(world.opposites);
    return `The opposite of ${word} is ${opposite}.\n`;
  });
  return lines.join("");
}

function writeRhyme(random: Random): string {
  const lines = Array.from({ length: 3 + random.below(4) }, () => {
    const [animal, sound] = random.pickCommon(world.sounds);
    return `The ${animal} says ${sound}.\n`;
  });
  return lines.join("");
}
