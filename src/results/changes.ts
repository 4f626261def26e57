/** What a new table changes against the old file at its place. */
import { keyColumns, type ScoreKey, type ScoreRow } from "./row.ts";
import { openTable, TableReadError, type TableRow } from "./table.ts";

export interface ChangeCounts {
  /** Keys that the old file lacks. */
  added: number;
  /** Keys that only the old file has. */
  removed: number;
  /** Keys of both, from another evaluation: its date or fingerprint differs. */
  replaced: number;
  /** Keys of both whose score or standard error differs. */
  changed: number;
}

export interface ChangedValue extends ScoreKey {
  readonly old_score: number | null;
  readonly new_score: number | null;
}

export interface Changes extends ChangeCounts {
  readonly unchanged: number;
  /** Models with a change, in the order in which they were found. */
  readonly by_model: ReadonlyMap<string, Readonly<ChangeCounts>>;
  /** The first of the changed values, at most `maxValues`. */
  readonly values: readonly ChangedValue[];
}

/** Changed values that are named one by one. */
const maxValues = 100;

const comparedColumns = [
  ...keyColumns,
  "score",
  "score_stderr",
  "eval_date",
  "fingerprint",
] as const;

type OldRow = Pick<ScoreRow, "model" | "score" | "score_stderr" | "eval_date" | "fingerprint">;

/** Scores of a table by key. */
export type OldScores = Map<string, OldRow>;

function keyText(key: TableRow | ScoreKey): string {
  // Other writers may have stored steps as floats.
  return keyColumns.map((column) => String(key[column])).join("\u0000");
}

/**
 * The scores of the file at `path`, undefined when there is none.
 * @throws {TableReadError} when it is something else: better than to replace what a mistyped name stands for.
 */
export async function readOldScores(path: string): Promise<OldScores | undefined> {
  using table = await openTable(path);
  if (table === undefined) return undefined;
  const lacking = keyColumns.find((column) => !table.columns.includes(column));
  if (table.columns.length > 0 && lacking !== undefined) {
    throw new TableReadError(path, `it is no table of scores: it has no column "${lacking}"`);
  }
  const scores: OldScores = new Map();
  for await (const rows of table.rows(comparedColumns)) {
    for (const row of rows) scores.set(keyText(row), { ...absent, ...row } as OldRow);
  }
  return scores;
}

const absent: OldRow = {
  model: null,
  score: null,
  score_stderr: null,
  eval_date: null,
  fingerprint: null,
};

/** Follows a table as it is written. */
export interface ChangeTracker {
  see(row: ScoreRow): void;
  /** After the last row. */
  result(): Changes;
}

/** Consumes `old`: rows that were seen leave it, what stays was removed. */
export function trackChanges(old: OldScores): ChangeTracker {
  const total: ChangeCounts = { added: 0, removed: 0, replaced: 0, changed: 0 };
  const byModel = new Map<string, ChangeCounts>();
  const values: ChangedValue[] = [];
  let unchanged = 0;
  const count = (model: string | null, kind: keyof ChangeCounts) => {
    const name = model ?? "";
    const counts = byModel.get(name) ?? { added: 0, removed: 0, replaced: 0, changed: 0 };
    byModel.set(name, counts);
    counts[kind]++;
    total[kind]++;
  };
  return {
    see: (row) => {
      const key = keyText(row);
      const before = old.get(key);
      if (before === undefined) return count(row.model, "added");
      old.delete(key);
      const isReplaced =
        before.eval_date !== row.eval_date || before.fingerprint !== row.fingerprint;
      const isChanged =
        !isSame(before.score, row.score) || !isSame(before.score_stderr, row.score_stderr);
      if (isReplaced) count(row.model, "replaced");
      if (isChanged) count(row.model, "changed");
      if (!isReplaced && !isChanged) unchanged++;
      if (isChanged && values.length < maxValues) values.push(changedValue(row, before));
    },
    result: () => {
      for (const { model } of old.values()) count(model, "removed");
      old.clear();
      return { ...total, unchanged, by_model: byModel, values };
    },
  };
}

function isSame(a: number | null, b: number | null): boolean {
  return a === b || (Number.isNaN(a) && Number.isNaN(b));
}

function changedValue(row: ScoreRow, before: OldRow): ChangedValue {
  const { model, step, task, metric, metric_filter } = row;
  return {
    ...{ model, step, task, metric, metric_filter },
    old_score: before.score,
    new_score: row.score,
  };
}
