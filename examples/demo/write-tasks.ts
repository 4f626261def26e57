/**
 * Writes the questions of tasks/*.yaml into tasks/data, from the same world as the text that the models read:
 *
 *     node examples/demo/write-tasks.ts
 */
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { writeHeldOutText, writeSimile } from "./corpus.ts";
import { openRandom, type Random } from "./random.ts";
import * as world from "./world.ts";

type Question = Readonly<Record<string, unknown>>;

/** File name → the questions in it. The same at each call. */
export function makeQuestions(): Map<string, readonly Question[]> {
  const random = openRandom(3);
  const opposites = random.shuffle(world.opposites);
  const neighbours = random.shuffle(world.people);
  return new Map([
    [
      "trades.jsonl",
      world.people.map(({ name, trade }) => choose(random, { name }, trade, world.trades)),
    ],
    ["homes.jsonl", neighbours.slice(8).map((person) => homeOf(random, person))],
    ["homes_train.jsonl", neighbours.slice(0, 8).map((person) => homeOf(random, person))],
    ["opposites.jsonl", opposites.slice(8).map((pair) => oppositeOf(random, pair))],
    ["opposites_train.jsonl", opposites.slice(0, 8).map((pair) => oppositeOf(random, pair))],
    ["agreement.jsonl", unlike(60, () => askAgreement(random))],
    ["last_word.jsonl", unlike(60, () => askLastWord(random))],
    ["sums.jsonl", unlike(60, () => askSum(random))],
    ["sounds.jsonl", world.sounds.map(([animal, sound]) => ({ animal, sound }))],
    ["held_out.jsonl", writeHeldOutText(40).map((text) => ({ text }))],
  ]);
}

/** The right answer among three wrong ones. */
function choose(
  random: Random,
  asked: Question,
  answer: string,
  answers: readonly string[],
): Question {
  const wrong = random.shuffle([...new Set(answers)].filter((other) => other !== answer));
  const choices = random.shuffle([answer, ...wrong.slice(0, 3)]);
  return { ...asked, choices, label: choices.indexOf(answer) };
}

function homeOf(random: Random, { name, home }: world.Person): Question {
  return choose(random, { name }, home, world.homes);
}

function oppositeOf(random: Random, [word, opposite]: readonly [string, string]): Question {
  return choose(
    random,
    { word },
    opposite,
    world.opposites.map(([, other]) => other),
  );
}

/** Two sentences that differ in the verb's s. */
function askAgreement(random: Random): Question {
  const [one, many] = random.pickCommon(world.animals);
  const doing = random.pickCommon(world.doings);
  const single = random.below(2) === 0;
  const choices = [`${doing}s`, doing].map((verb) => `The ${single ? one : many} ${verb}.`);
  return { choices, label: single ? 0 : 1 };
}

function askLastWord(random: Random): Question {
  const [, context, word] = /^(.*) (\w+)\.$/.exec(writeSimile(random)) as RegExpExecArray;
  return { context, word };
}

function askSum(random: Random): Question {
  const [left, right] = [random.below(10), random.below(10)];
  return { left, right, sum: left + right };
}

function unlike(count: number, make: () => Question): Question[] {
  const seen = new Map<string, Question>();
  while (seen.size < count) {
    const question = make();
    seen.set(JSON.stringify(question), question);
  }
  return [...seen.values()];
}

if (import.meta.main) {
  const directory = join(import.meta.dirname, "tasks/data");
  await mkdir(directory, { recursive: true });
  for (const [name, questions] of makeQuestions()) {
    const lines = questions.map((question) => `${JSON.stringify(question)}\n`);
    await writeFile(join(directory, name), lines.join(""));
  }
}
