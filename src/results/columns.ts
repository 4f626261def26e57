/** Rows to Arrow columns and back. Filled by hand: Arrow's builders take six times as long, its row proxies more. */
import {
  Bool,
  type Data,
  type DataType,
  Field,
  Float64,
  Int64,
  makeData,
  RecordBatch,
  Schema,
  Struct,
  Utf8,
} from "apache-arrow";
import { type ColumnType, type ScoreRow, type StructType, scoreColumns } from "./row.ts";

function arrowType(type: ColumnType | StructType): DataType {
  switch (type) {
    case "text":
      return new Utf8();
    case "int64":
      return new Int64();
    case "float64":
      return new Float64();
    case "boolean":
      return new Bool();
    default:
      return new Struct(fieldsOf(type));
  }
}

/** All nullable. Never a dictionary: readers would see categories (polars#28959). */
function fieldsOf(columns: Readonly<Record<string, ColumnType | StructType>>): Field[] {
  return Object.entries(columns).map(([name, type]) => new Field(name, arrowType(type), true));
}

/** The declared schema: written in full even when a column is all null. */
export const scoreSchema = new Schema(fieldsOf(scoreColumns));

interface Validity {
  readonly nullCount: number;
  readonly nullBitmap: Uint8Array;
}

function validityOf(values: readonly unknown[]): Validity {
  const nullBitmap = new Uint8Array((values.length + 7) >> 3);
  let nullCount = 0;
  for (const [at, value] of values.entries()) {
    if (value === null || value === undefined) nullCount++;
    else setBit(nullBitmap, at);
  }
  return { nullCount, nullBitmap };
}

function setBit(bits: Uint8Array, at: number): void {
  bits[at >> 3] = (bits[at >> 3] ?? 0) | (1 << (at & 7));
}

const encoder = new TextEncoder();

function utf8Data(values: readonly (string | null)[]): Data<Utf8> {
  const valueOffsets = new Int32Array(values.length + 1);
  const texts = new Map<string, Uint8Array>();
  const parts: Uint8Array[] = [];
  let size = 0;
  for (const [at, value] of values.entries()) {
    if (value !== null && value !== undefined) {
      // Most texts of a batch are the same few: encode each once.
      const bytes = texts.get(value) ?? encoder.encode(value);
      texts.set(value, bytes);
      parts.push(bytes);
      size += bytes.length;
    }
    valueOffsets[at + 1] = size;
  }
  return makeData({
    type: new Utf8(),
    length: values.length,
    valueOffsets,
    data: Buffer.concat(parts, size),
    ...validityOf(values),
  });
}

function columnData(type: ColumnType | StructType, values: readonly unknown[]): Data {
  const length = values.length;
  switch (type) {
    case "text":
      return utf8Data(values as (string | null)[]);
    case "int64":
      return makeData({
        type: new Int64(),
        length,
        data: BigInt64Array.from(values as (bigint | null)[], (value) => value ?? 0n),
        ...validityOf(values),
      });
    case "float64":
      return makeData({
        type: new Float64(),
        length,
        data: Float64Array.from(values as (number | null)[], (value) => value ?? 0),
        ...validityOf(values),
      });
    case "boolean": {
      const data = new Uint8Array((length + 7) >> 3);
      for (const [at, value] of values.entries()) if (value === true) setBit(data, at);
      return makeData({ type: new Bool(), length, data, ...validityOf(values) });
    }
    default:
      return structData(type, values as (Record<string, unknown> | null)[]);
  }
}

/** A null struct is not a struct of nulls: it has its own validity. */
function structData(type: StructType, values: readonly (Record<string, unknown> | null)[]): Data {
  const children = Object.entries(type).map(([field, fieldType]) =>
    columnData(
      fieldType,
      values.map((value) => value?.[field] ?? null),
    ),
  );
  return makeData({
    type: new Struct(fieldsOf(type)),
    length: values.length,
    children,
    ...validityOf(values),
  });
}

/** One Arrow batch of the declared schema; zero rows make an empty one. */
export function recordBatch(rows: readonly ScoreRow[]): RecordBatch {
  const children = Object.entries(scoreColumns).map(([name, type]) =>
    columnData(
      type,
      rows.map((row) => row[name as keyof ScoreRow]),
    ),
  );
  const data = makeData({
    type: new Struct(scoreSchema.fields),
    length: rows.length,
    nullCount: 0,
    children,
  });
  return new RecordBatch(scoreSchema, data);
}
