/** What a live display needs of a terminal's stream. */
export interface Terminal {
  /** 0 on a pseudo-terminal that nobody has sized. */
  readonly columns: number;
  readonly rows: number;
  write(text: string): unknown;
}

const fallbackColumns = 80;
const fallbackRows = 24;

const escapes = {
  hideCursor: "\u001b[?25l",
  showCursor: "\u001b[?25h",
  /** The terminal shows what comes between the two at once; one that does not know it ignores it. */
  beginFrame: "\u001b[?2026h",
  endFrame: "\u001b[?2026l",
  clearLine: "\u001b[2K",
  clearBelow: "\u001b[J",
  up: (lines: number) => `\u001b[${lines}A`,
};

/**
 * Some lines at the bottom of a terminal that are redrawn in place; only what has changed is written. Messages scroll by
 * above them. Disposing it leaves the last lines where they are and gives the cursor back.
 */
export class LiveDisplay implements Disposable {
  readonly #terminal: Terminal;
  /** As they stand on the screen: cut to its width. */
  #shown: string[] = [];
  #width = 0;
  #started = false;

  constructor(terminal: Terminal) {
    this.#terminal = terminal;
  }

  /** Lines that fit: one is kept for the cursor. */
  get height(): number {
    return Math.max((this.#terminal.rows || fallbackRows) - 1, 1);
  }

  show(lines: readonly string[]): void {
    const width = this.#terminal.columns || fallbackColumns;
    const cut = lines.slice(0, this.height).map((line) => [...line].slice(0, width).join(""));
    if (width !== this.#width) {
      // The terminal has wrapped the old lines in its own way: they are given up.
      this.#shown = [];
      this.#width = width;
    }
    const frame = this.#frame(cut);
    this.#shown = cut;
    if (frame === "") return;
    const cursor = this.#started ? "" : escapes.hideCursor;
    this.#started = true;
    this.#terminal.write(`${cursor}${escapes.beginFrame}${frame}${escapes.endFrame}`);
  }

  /** Prints a line of its own above the display. */
  say(message: string): void {
    const lines = this.#shown;
    const up = lines.length === 0 ? "" : `${escapes.up(lines.length)}\r${escapes.clearBelow}`;
    this.#shown = [];
    this.#terminal.write(`${up}${message}\n`);
    this.show(lines);
  }

  [Symbol.dispose](): void {
    if (!this.#started) return;
    this.#started = false;
    this.#terminal.write(escapes.showCursor);
  }

  #frame(lines: readonly string[]): string {
    const before = this.#shown;
    if (lines.length === before.length && lines.every((line, at) => line === before[at])) return "";
    const start = before.length === 0 ? "" : `${escapes.up(before.length)}\r`;
    const body = lines.map((line, at) =>
      line === before[at] ? "\n" : `${escapes.clearLine}${line}\n`,
    );
    const rest = lines.length < before.length ? escapes.clearBelow : "";
    return `${start}${body.join("")}${rest}`;
  }
}
