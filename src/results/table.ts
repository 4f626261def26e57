/**
 * scores.parquet on disk. apache-arrow holds columns and schema, parquet-wasm is the codec. Both stream, so memory stays
 * at a few batches: WebAssembly has 4 GiB at most, never gives memory back, and keeps each table until `free()`.
 */
import { openAsBlob, type Stats } from "node:fs";
import { stat } from "node:fs/promises";
import { Table as ArrowTable, tableFromIPC, tableToIPC } from "apache-arrow";
import {
  Compression,
  EnabledStatistics,
  ParquetFile,
  transformParquetStream,
  type RecordBatch as WasmBatch,
  Table as WasmTable,
  WriterPropertiesBuilder,
} from "parquet-wasm";
import { ExitCode, isMissing, OperatorError } from "../base/errors.ts";
import { writeFileAtomic } from "../base/files.ts";
import { type Json, stringifyJson } from "../base/json.ts";
import { recordBatch } from "./columns.ts";
import type { ScoreRow } from "./row.ts";

const rowsPerBatch = 5_000;
const rowsPerGroup = 50_000;

/** Thrown when the file in a table's place is no table of scores. */
export class TableReadError extends OperatorError {
  readonly code = "results.table-read";
  readonly exitCode = ExitCode.usage;

  constructor(path: string, reason: string, options?: ErrorOptions) {
    super(`Cannot read "${path}": ${reason}`, {
      ...options,
      hint: "Move it away, or name another file with --output.",
    });
  }
}

/** Batches of about `rowsPerBatch`; one empty batch when there is no row, for the schema. */
async function* inBatches(
  rows: AsyncIterable<readonly ScoreRow[]>,
): AsyncGenerator<readonly ScoreRow[]> {
  let batch: ScoreRow[] = [];
  let isFirst = true;
  for await (const some of rows) {
    for (const row of some) {
      batch.push(row);
      if (batch.length < rowsPerBatch) continue;
      yield batch;
      batch = [];
      isFirst = false;
    }
  }
  if (batch.length > 0 || isFirst) yield batch;
}

/** What a table says of itself: one JSON object under the key `eval_hive`. */
export type TableMetadata = Readonly<Record<string, Json>>;

function writerProperties(metadata: TableMetadata) {
  return (
    new WriterPropertiesBuilder()
      .setCompression(Compression.ZSTD)
      .setMaxRowGroupSize(rowsPerGroup)
      .setStatisticsEnabled(EnabledStatistics.Page)
      // One key only: the codec writes several in random order, and the same results should give the same bytes.
      .setKeyValueMetadata(new Map([["eval_hive", stringifyJson(metadata)]]))
      .build()
  );
}

/** The parquet file's bytes, in pieces. @throws whatever `rows` throws. */
async function* encode(
  rows: AsyncIterable<readonly ScoreRow[]>,
  metadata: TableMetadata,
): AsyncGenerator<Uint8Array> {
  const batches = inBatches(rows);
  let failure: { error: unknown } | undefined;
  const source = new ReadableStream<WasmBatch>({
    pull: async (controller) => {
      try {
        const next = await batches.next();
        if (next.done === true) return controller.close();
        const arrow = new ArrowTable(recordBatch(next.value));
        const table = WasmTable.fromIPCStream(tableToIPC(arrow, "stream"));
        for (const batch of table.recordBatches()) controller.enqueue(batch);
        table.free();
      } catch (error) {
        // The codec reports any error of its source as "Dyn casting error": end the source, and tell afterwards.
        failure = { error };
        controller.close();
      }
    },
  });
  try {
    const bytes = await transformParquetStream(source, writerProperties(metadata));
    for await (const piece of bytes as ReadableStream<Uint8Array>) yield piece;
  } catch (error) {
    throw failure === undefined ? error : failure.error;
  } finally {
    await batches.return(undefined);
  }
  if (failure !== undefined) throw failure.error;
}

/**
 * Writes a table of all declared columns; `rows` come in the table's order. zstd, row groups of at most 50,000 rows, page
 * index on every column. The file appears in one step or stays as it was, whatever `rows` throws.
 */
export async function writeTable(
  path: string,
  rows: AsyncIterable<readonly ScoreRow[]>,
  metadata: TableMetadata,
): Promise<void> {
  await writeFileAtomic(path, encode(rows, metadata));
}

/** Values of one row, by column; integers as bigint. */
export type TableRow = Readonly<Record<string, unknown>>;

export interface OpenTable {
  /** All that the file has; none in the files that eval-hive 0.1 writes when it finds nothing. */
  readonly columns: readonly string[];
  /** Rows in the file's order, a batch at a time, with those of the `wanted` columns that the file has. */
  rows(wanted: readonly string[]): AsyncIterable<readonly TableRow[]>;
}

/**
 * Opens any parquet file. @returns undefined when there is no such file.
 * @throws {TableReadError} when it is no parquet file: of a directory the codec would die, and a device would be replaced.
 */
export async function openTable(path: string): Promise<(OpenTable & Disposable) | undefined> {
  const found = await statIfThere(path);
  if (found === undefined) return undefined;
  if (found.isDirectory()) throw new TableReadError(path, "it is a directory");
  if (!found.isFile()) throw new TableReadError(path, "it is not a regular file");
  let file: ParquetFile;
  try {
    file = await ParquetFile.fromFile(await openAsBlob(path));
  } catch (error) {
    throw new TableReadError(path, "it is not a parquet file", { cause: error });
  }
  const { fields } = tableFromIPC(file.schema().intoIPCStream()).schema;
  const columns = fields.map(({ name }) => name);
  return {
    columns,
    rows: (wanted) =>
      rowsOf(
        file,
        columns.filter((name) => wanted.includes(name)),
      ),
    [Symbol.dispose]: () => file.free(),
  };
}

async function statIfThere(path: string): Promise<Stats | undefined> {
  try {
    return await stat(path);
  } catch (error) {
    if (isMissing(error)) return undefined;
    throw error;
  }
}

async function* rowsOf(file: ParquetFile, columns: string[]): AsyncGenerator<readonly TableRow[]> {
  // Without columns the codec would read all of them.
  if (columns.length === 0) return;
  const stream = (await file.stream({
    columns,
    batchSize: rowsPerBatch,
    concurrency: 1,
  })) as ReadableStream<WasmBatch>;
  for await (const batch of stream) {
    const table = tableFromIPC(batch.intoIPCStream());
    const vectors = columns.map((name) => [name, table.getChild(name)] as const);
    yield Array.from({ length: table.numRows }, (_, at) =>
      Object.fromEntries(vectors.map(([name, vector]) => [name, vector?.get(at) ?? null])),
    );
  }
}
