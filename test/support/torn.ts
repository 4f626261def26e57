/** Bytes as they may arrive: in one piece, in many, or cut anywhere. */
export const whole = (text: string): readonly Buffer[] => [Buffer.from(text, "latin1")];
export const byteByByte = (text: string): readonly Buffer[] =>
  [...Buffer.from(text, "latin1")].map((byte) => Buffer.from([byte]));

/** @param cuts places, counted round and round */
export function split(bytes: Buffer, cuts: readonly number[]): Buffer[] {
  const places = [...new Set(cuts.map((cut) => cut % (bytes.length + 1)))].sort((a, b) => a - b);
  return [0, ...places].map((from, n) => bytes.subarray(from, places[n] ?? bytes.length));
}

/** A body with chunked transfer coding, with a chunk for each piece that has bytes. */
export function inChunks(bytes: Buffer, cuts: readonly number[]): Buffer {
  const chunks = split(bytes, cuts)
    .filter(({ length }) => length > 0)
    .flatMap((chunk) => [
      Buffer.from(`${chunk.length.toString(16)}\r\n`),
      chunk,
      Buffer.from("\r\n"),
    ]);
  return Buffer.concat([...chunks, Buffer.from("0\r\n\r\n")]);
}
