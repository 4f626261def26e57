import { mkdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type ContextTree, endOfText, vocabularySize } from "./context-tree.ts";

/** What config.json of a checkpoint says. */
interface CheckpointConfig {
  readonly model_type: "byte-ngram";
  readonly order: number;
  readonly vocab_size: number;
  readonly trained_bytes: number;
  readonly contexts: number;
  readonly followers: number;
}

/** Writes a directory with config, weights and tokenizer, as Hugging Face lays them out; it appears when it is complete. */
export async function writeCheckpoint(
  directory: string,
  tree: ContextTree,
  trainedBytes: number,
): Promise<void> {
  const config: CheckpointConfig = {
    model_type: "byte-ngram",
    order: tree.order,
    vocab_size: vocabularySize,
    trained_bytes: trainedBytes,
    contexts: tree.symbol.length,
    followers: tree.followerSymbol.length,
  };
  const unfinished = `${directory}.unfinished`;
  await rm(unfinished, { recursive: true, force: true });
  await mkdir(unfinished, { recursive: true });
  const write = (name: string, content: unknown) =>
    writeFile(join(unfinished, name), `${JSON.stringify(content, null, 1)}\n`);
  await write("config.json", config);
  await write("tokenizer.json", byteTokenizer());
  await write("tokenizer_config.json", tokenizerConfig);
  // 4-byte numbers first, so that each array starts where its type may.
  const weights = [
    tree.childStart,
    tree.followerStart,
    tree.followerCount,
    tree.symbol,
    tree.followerSymbol,
  ].map((array) => new Uint8Array(array.buffer, array.byteOffset, array.byteLength));
  await writeFile(join(unfinished, "model.bin"), Buffer.concat(weights));
  await rm(directory, { recursive: true, force: true });
  await rename(unfinished, directory);
}

/** @throws Error when `directory` holds no checkpoint of ours, or a torn one. */
export async function readCheckpoint(directory: string): Promise<ContextTree> {
  const config = JSON.parse(
    await readFile(join(directory, "config.json"), "utf8"),
  ) as CheckpointConfig;
  if (config.model_type !== "byte-ngram") {
    throw new Error(
      `Cannot read the checkpoint "${directory}": its model_type is "${config.model_type}"`,
    );
  }
  const { contexts, followers, order } = config;
  const file = await readFile(join(directory, "model.bin"));
  const expected = 4 * (2 * (contexts + 1) + followers) + 2 * (contexts + followers);
  if (file.length !== expected) {
    throw new Error(
      `Cannot read "${directory}/model.bin": ${file.length} bytes instead of ${expected}`,
    );
  }
  const { buffer } = new Uint8Array(file);
  let at = 0;
  const words = (length: number) => {
    const array = new Uint32Array(buffer, at, length);
    at += array.byteLength;
    return array;
  };
  const halves = (length: number) => {
    const array = new Uint16Array(buffer, at, length);
    at += array.byteLength;
    return array;
  };
  return {
    order,
    childStart: words(contexts + 1),
    followerStart: words(contexts + 1),
    followerCount: words(followers),
    symbol: halves(contexts),
    followerSymbol: halves(followers),
  };
}

const endOfTextToken = "<|endoftext|>";

const tokenizerConfig = {
  tokenizer_class: "PreTrainedTokenizerFast",
  bos_token: endOfTextToken,
  eos_token: endOfTextToken,
  pad_token: endOfTextToken,
  clean_up_tokenization_spaces: false,
  model_max_length: 4096,
};

/** A byte-level BPE without merges: each byte is a token, and its id is its value. */
function byteTokenizer(): unknown {
  const vocab = Object.fromEntries(byteLevelAlphabet().map((letter, byte) => [letter, byte]));
  const byteLevel = {
    type: "ByteLevel",
    add_prefix_space: false,
    trim_offsets: true,
    use_regex: false,
  };
  return {
    version: "1.0",
    truncation: null,
    padding: null,
    added_tokens: [
      {
        id: endOfText,
        content: endOfTextToken,
        single_word: false,
        lstrip: false,
        rstrip: false,
        normalized: false,
        special: true,
      },
    ],
    normalizer: null,
    pre_tokenizer: byteLevel,
    post_processor: null,
    decoder: byteLevel,
    model: { type: "BPE", vocab, merges: [] },
  };
}

/** GPT-2's letter for each byte: printable ones stand for themselves, the others for what comes from U+0100 on. */
function byteLevelAlphabet(): string[] {
  const printable = (byte: number) =>
    (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
  let next = 256;
  return Array.from({ length: 256 }, (_, byte) =>
    String.fromCodePoint(printable(byte) ? byte : next++),
  );
}
