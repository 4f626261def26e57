/** A command as a person can paste it into a shell. */
export function renderCommand(words: readonly string[]): string {
  return words.map((word) => (/^[\w./@:+-]+$/.test(word) ? word : quoted(word))).join(" ");
}

function quoted(word: string): string {
  return `'${word.replaceAll("'", "'\\''")}'`;
}
