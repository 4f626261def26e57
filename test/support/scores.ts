import assert from "node:assert/strict";
import { asyncBufferFromFile, parquetReadObjects } from "hyparquet";
import { compressors } from "hyparquet-compressors";

export type StoredRow = Readonly<Record<string, unknown>>;

/** The rows of a parquet file, by a reader that shares no code with the writer. */
export async function readScores(path: string): Promise<StoredRow[]> {
  return await parquetReadObjects({ file: await asyncBufferFromFile(path), compressors });
}

/** What one model scored, by `task metric filter`. @throws when two rows have one key. */
export function scoresOfModel(rows: readonly StoredRow[], model: string): Map<string, unknown> {
  const scores = new Map<string, unknown>();
  for (const row of rows) {
    if (row["model"] !== model) continue;
    const key = `${row["task"]} ${row["metric"]} ${row["metric_filter"]}`;
    assert(!scores.has(key), `two rows of ${key}`);
    scores.set(key, [row["score"], row["score_stderr"], row["n_samples"]]);
  }
  return scores;
}
