import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";

/** GPT-2's printable stand-in for each byte, in byte order (openai/gpt-2, src/encoder.py, bytes_to_unicode). */
function byteSymbols(): string[] {
  const printable = (byte: number) =>
    (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
  let next = 256;
  return Array.from({ length: 256 }, (_, byte) =>
    String.fromCodePoint(printable(byte) ? byte : next++),
  );
}

/**
 * Writes a tokenizer that AutoTokenizer loads offline and without torch: one token per byte (its id is the byte), plus the
 * special tokens `<s>` (256) and `</s>` (257). `merges` adds tokens: `[["A", ":"]]` makes `A:` one. `words` divides texts by
 * GPT-2's pattern first, so that no token reaches over the end of a word.
 */
export async function writeByteTokenizer(
  directory: string,
  options: { merges?: readonly (readonly [string, string])[]; words?: boolean } = {},
): Promise<void> {
  const { merges = [], words = false } = options;
  await mkdir(directory, { recursive: true });
  const symbols = byteSymbols();
  const written = merges.map(([left, right]) => [spell(left, symbols), spell(right, symbols)]);
  const vocab = Object.fromEntries(symbols.map((symbol, byte) => [symbol, byte]));
  written.forEach(([left, right], index) => {
    vocab[`${left}${right}`] = 258 + index;
  });
  const special = (id: number, content: string) => ({
    id,
    content,
    single_word: false,
    lstrip: false,
    rstrip: false,
    normalized: false,
    special: true,
  });
  const byteLevel = {
    type: "ByteLevel",
    add_prefix_space: false,
    trim_offsets: false,
    use_regex: words,
  };
  const tokenizer = {
    version: "1.0",
    truncation: null,
    padding: null,
    added_tokens: [special(256, "<s>"), special(257, "</s>")],
    normalizer: null,
    pre_tokenizer: byteLevel,
    // Only for whoever asks for special tokens, as add_bos_token does.
    post_processor: {
      type: "TemplateProcessing",
      single: [{ SpecialToken: { id: "<s>", type_id: 0 } }, { Sequence: { id: "A", type_id: 0 } }],
      pair: [
        { SpecialToken: { id: "<s>", type_id: 0 } },
        { Sequence: { id: "A", type_id: 0 } },
        { Sequence: { id: "B", type_id: 0 } },
      ],
      special_tokens: { "<s>": { id: "<s>", ids: [256], tokens: ["<s>"] } },
    },
    decoder: byteLevel,
    model: {
      type: "BPE",
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: false,
      byte_fallback: false,
      vocab,
      merges: written.map(([left, right]) => `${left} ${right}`),
    },
  };
  const config = {
    tokenizer_class: "PreTrainedTokenizerFast",
    bos_token: "<s>",
    eos_token: "</s>",
    model_max_length: 4096,
    clean_up_tokenization_spaces: false,
  };
  await writeFile(join(directory, "tokenizer.json"), JSON.stringify(tokenizer));
  await writeFile(join(directory, "tokenizer_config.json"), JSON.stringify(config));
}

function spell(text: string, symbols: readonly string[]): string {
  return [...Buffer.from(text)].map((byte) => symbols[byte]).join("");
}
