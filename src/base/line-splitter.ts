/** Makes lines of text that comes in pieces. Its work grows with the text alone, however long a line is. */
export class LineSplitter {
  /** Of the line that has not ended. */
  #pieces: string[] = [];

  /** @returns the lines that end in this piece, without their ends (LF, CR LF). */
  push(piece: string): string[] {
    const [first = "", ...others] = piece.split("\n");
    this.#pieces.push(first);
    const rest = others.pop();
    if (rest === undefined) return [];
    const lines = [this.#pieces.join(""), ...others];
    this.#pieces = [rest];
    return lines.map((line) => (line.endsWith("\r") ? line.slice(0, -1) : line));
  }
}
