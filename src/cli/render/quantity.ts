/** `12,345`. */
export function renderCount(value: number): string {
  return String(Math.floor(value)).replace(/\B(?=(\d{3})+$)/g, ",");
}

/** Rounded down, so that 100 % means all of it: 998 of 1000 are 99 %. */
export function percent(part: number, whole: number): number {
  return whole === 0 ? 100 : Math.floor((100 * part) / whole);
}

/** `████░░░░`: full only when all of it is done. */
export function renderBar(part: number, whole: number, width = 20): string {
  const full = whole === 0 ? width : Math.floor((width * part) / whole);
  return "█".repeat(full) + "░".repeat(width - full);
}

/** `40 s`, `3 min`, `2 h 10 min`, `3 d 4 h`: at most two units, for people. */
export function renderDuration(seconds: number): string {
  const whole = Math.round(seconds);
  if (whole < 90) return `${whole} s`;
  const minutes = Math.round(whole / 60);
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return minutes % 60 === 0 ? `${hours} h` : `${hours} h ${minutes % 60} min`;
  return `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

const wide =
  /[\p{Script=Han}\p{Script=Hangul}\p{Script=Hiragana}\p{Script=Katakana}\p{Emoji_Presentation}\u3000-\u303f\uff01-\uff60]/gu;

/** Columns of a terminal: East Asian characters and emoji take two, combining marks none. */
function displayWidth(text: string): number {
  if (/^[ -~]*$/.test(text)) return text.length;
  const shown = text.replace(/[\p{Mn}\p{Me}\p{Cf}]/gu, "");
  return [...shown].length + (shown.match(wide)?.length ?? 0);
}

/** Columns as wide as their widest cell, two blanks between; `right` names those that hold numbers. */
export function renderColumns(
  rows: readonly (readonly string[])[],
  right: ReadonlySet<number> = new Set(),
): string[] {
  const widths: number[] = [];
  for (const row of rows) {
    row.forEach((cell, at) => {
      widths[at] = Math.max(widths[at] ?? 0, displayWidth(cell));
    });
  }
  return rows.map((row) =>
    row
      .map((cell, at) => {
        const blanks = " ".repeat((widths[at] ?? 0) - displayWidth(cell));
        return right.has(at) ? blanks + cell : cell + blanks;
      })
      .join("  ")
      .trimEnd(),
  );
}
