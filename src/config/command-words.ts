/**
 * The words of a command as a POSIX shell splits them: blanks separate, quotes and backslashes keep together; nothing is
 * expanded.
 * @returns undefined when a quote is left open.
 */
export function parseCommandWords(text: string): string[] | undefined {
  const token = /\s+|\\([\s\S])|'([^']*)'|"((?:[^"\\]|\\[\s\S])*)"|([^\s\\'"]+)/y;
  const words: string[] = [];
  let word: string | undefined;
  while (token.lastIndex < text.length) {
    const match = token.exec(text);
    if (match === null) return undefined;
    const [all, escaped, single, double, plain] = match;
    const part = escaped ?? single ?? double?.replace(/\\(["\\$`])/g, "$1") ?? plain;
    if (part !== undefined) word = (word ?? "") + part;
    else if (all !== "" && word !== undefined) {
      words.push(word);
      word = undefined;
    }
  }
  if (word !== undefined) words.push(word);
  return words;
}
