const [c1, c2, c3, c4] = [0x239b961b, 0xab0e9789, 0x38b34ae5, 0xa1e38b93] as const;

/** In bytes. */
export const keyBytes = 16;

/**
 * What tells a request from all others of its evaluation: a hash of method, path and body (MurmurHash3, x86, 128 bits). Nobody
 * makes up requests here that are to be mistaken for one another, and a cryptographic hash of a long prompt would cost as much
 * as everything else that is done with it.
 * @returns as many characters of latin1 as `keyBytes`
 */
export function requestKey(method: string, path: string, body: readonly Buffer[]): string {
  hash.begin();
  hash.update(prefixOf(method, path));
  for (const chunk of body) hash.update(chunk);
  return hash.digest();
}

/** Whole blocks, so that those of the body are where they are in its bytes. Its first line end says where the path ends. */
function prefixOf(method: string, path: string): Buffer {
  if (last === undefined || last.method !== method || last.path !== path) {
    const text = `${method} ${path}\n`;
    const bytes = Buffer.alloc((text.length + 15) & ~15, "\n");
    bytes.write(text, "latin1");
    last = { method, path, bytes };
  }
  return last.bytes;
}

/** Of the request before: most ask for the same path. */
let last: { readonly method: string; readonly path: string; readonly bytes: Buffer } | undefined;

/** Of all bytes that it is given, however they are cut into pieces. */
class Hash128 {
  #h1 = 0;
  #h2 = 0;
  #h3 = 0;
  #h4 = 0;
  #length = 0;
  readonly #digest = Buffer.alloc(keyBytes);
  /** Of a block that is not complete. */
  readonly #rest = Buffer.alloc(16);
  #restBytes = 0;

  /** Forgets what it was given. */
  begin(): void {
    this.#h1 = 0;
    this.#h2 = 0;
    this.#h3 = 0;
    this.#h4 = 0;
    this.#length = 0;
    this.#restBytes = 0;
  }

  update(bytes: Buffer): void {
    this.#length += bytes.length;
    let at = 0;
    if (this.#restBytes > 0) {
      at = bytes.copy(this.#rest, this.#restBytes);
      this.#restBytes += at;
      if (this.#restBytes < 16) return;
      this.#mix(this.#rest, 0, 16);
    }
    const end = at + ((bytes.length - at) & ~15);
    if (end > at) this.#mix(bytes, at, end);
    this.#restBytes = bytes.copy(this.#rest, 0, end);
  }

  digest(): string {
    this.#rest.fill(0, this.#restBytes);
    // What is not there counts as zeros, which change nothing.
    let h1 = this.#h1 ^ scramble(this.#rest.readInt32LE(0), c1, 15, c2);
    let h2 = this.#h2 ^ scramble(this.#rest.readInt32LE(4), c2, 16, c3);
    let h3 = this.#h3 ^ scramble(this.#rest.readInt32LE(8), c3, 17, c4);
    let h4 = this.#h4 ^ scramble(this.#rest.readInt32LE(12), c4, 18, c1);
    h1 ^= this.#length;
    h2 ^= this.#length;
    h3 ^= this.#length;
    h4 ^= this.#length;
    h1 = (h1 + h2 + h3 + h4) | 0;
    [h2, h3, h4] = [(h2 + h1) | 0, (h3 + h1) | 0, (h4 + h1) | 0];
    [h1, h2, h3, h4] = [finish(h1), finish(h2), finish(h3), finish(h4)];
    h1 = (h1 + h2 + h3 + h4) | 0;
    [h2, h3, h4] = [(h2 + h1) | 0, (h3 + h1) | 0, (h4 + h1) | 0];
    const key = this.#digest;
    key.writeInt32LE(h1, 0);
    key.writeInt32LE(h2, 4);
    key.writeInt32LE(h3, 8);
    key.writeInt32LE(h4, 12);
    return key.toString("latin1");
  }

  /** Whole blocks. All words are locals here: this is where the time goes. */
  #mix(bytes: Buffer, from: number, to: number): void {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    let h1 = this.#h1;
    let h2 = this.#h2;
    let h3 = this.#h3;
    let h4 = this.#h4;
    for (let at = from; at < to; at += 16) {
      h1 ^= scramble(view.getInt32(at, true), c1, 15, c2);
      h1 = (Math.imul(rotate(h1, 19) + h2, 5) + 0x561ccd1b) | 0;
      h2 ^= scramble(view.getInt32(at + 4, true), c2, 16, c3);
      h2 = (Math.imul(rotate(h2, 17) + h3, 5) + 0x0bcaa747) | 0;
      h3 ^= scramble(view.getInt32(at + 8, true), c3, 17, c4);
      h3 = (Math.imul(rotate(h3, 15) + h4, 5) + 0x96cd1c35) | 0;
      h4 ^= scramble(view.getInt32(at + 12, true), c4, 18, c1);
      h4 = (Math.imul(rotate(h4, 13) + h1, 5) + 0x32ac3b17) | 0;
    }
    this.#h1 = h1;
    this.#h2 = h2;
    this.#h3 = h3;
    this.#h4 = h4;
  }
}

/** One request after the other. */
const hash = new Hash128();

function rotate(word: number, by: number): number {
  return (word << by) | (word >>> (32 - by));
}

function scramble(word: number, first: number, by: number, second: number): number {
  return Math.imul(rotate(Math.imul(word, first), by), second);
}

function finish(word: number): number {
  const once = Math.imul(word ^ (word >>> 16), 0x85ebca6b);
  const twice = Math.imul(once ^ (once >>> 13), 0xc2b2ae35);
  return twice ^ (twice >>> 16);
}
